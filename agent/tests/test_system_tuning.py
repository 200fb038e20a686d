# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings: the files of the image, the size of the connection table, and what is told when one differs."""

from pathlib import Path

import pytest

from agent.system.tuning import KernelSettings, by_memory, parse, size_table

IMAGE = Path(__file__).parents[2] / "mkosi.extra/usr/lib"
GIB = 1 << 30
COUNT, BUCKETS = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets"


class Machine:
    """A machine whose kernel is a folder, with one setting of ours beside the table's, all as they should be."""

    def __init__(self, folder):
        self.proc = folder / "proc"
        self.files = [folder / "static.conf", folder / "memory.conf"]
        self.settings = KernelSettings(self.files, self.proc)
        self.files[0].write_text("# Forwards.\nnet.ipv4.ip_forward = 1\n")
        self.put("net.ipv4.ip_forward", "1")
        for name in (COUNT, BUCKETS):
            self.put(name, "1024")
        assert size_table(GIB, self.files[1], self.proc) == []

    def put(self, name, value):
        path = self.proc / name.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")

    def codes(self):
        return [trouble.code for trouble in self.settings.troubles()]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        (128 << 20, 65_536),
        (GIB, 262_144),
        (981_000 << 10, 245_248 // 4096 * 4096),
        (4 * GIB, 1_048_576),
        (16 * GIB, 4_194_304),
        (256 * GIB, 8_388_608),
    ],
)
def test_the_table_grows_with_the_memory_between_bounds(memory, size):
    assert by_memory(memory) == {BUCKETS: str(size), COUNT: str(size)}


def test_a_full_table_takes_a_tenth_of_the_memory():
    for memory in range(256 << 20, 32 * GIB, 123_456_789):
        assert int(by_memory(memory)[COUNT]) * (384 + 2 * 8) <= memory / 10 or memory < GIB


def test_a_file_is_read_with_its_groups_and_their_comments():
    head = "# SPDX-License-Identifier: X\n# About the file.\n\n"
    text = head + "# First\n# group.\na.b = 1\nc.d=2  3\n# Second.\ne = 4\n\nf = 5\n"
    assert [(each.name, each.value, each.purpose) for each in parse(text)] == [
        ("a.b", "1", "First group."),
        ("c.d", "2 3", "First group."),
        ("e", "4", "Second."),
        ("f", "5", ""),
    ]


def test_every_setting_of_the_image_has_its_purpose_and_stands_once():
    found = list(parse((IMAGE / "sysctl.d/50-sluice.conf").read_text()))
    assert all(each.purpose and each.value for each in found)
    names = [each.name for each in found]
    assert len(names) == len(set(names))
    assert not set(names) & by_memory(GIB).keys()
    assert "net.ipv4.ip_forward" in names


def test_every_setting_of_the_image_is_explained():
    explained = (IMAGE.parents[2] / "docs/kernel.md").read_text()
    for each in parse((IMAGE / "sysctl.d/50-sluice.conf").read_text()):
        if not each.name.startswith("kernel."):
            assert each.name.split(".")[-1] in explained, each.name


def test_every_kernel_has_the_settings_of_ipv4_that_the_image_sets():
    found = KernelSettings([IMAGE / "sysctl.d/50-sluice.conf"]).now()
    # Those of the neighbour table are the first network namespace's.
    ours = [each for each in found if each.name.startswith("net.ipv4.") and ".neigh." not in each.name]
    assert ours
    assert [each.name for each in ours if not each.value] == []


def test_settings_as_they_should_be_are_no_trouble(machine):
    assert machine.codes() == []
    assert {setting.name: (setting.value, setting.wanted) for setting in machine.settings.now()} == {
        "net.ipv4.ip_forward": ("1", "1"),
        BUCKETS: ("262144", "262144"),
        COUNT: ("262144", "262144"),
    }
    assert all(setting.purpose for setting in machine.settings.now())


def test_a_setting_that_something_else_changed_is_told_with_both_values(machine):
    machine.put("net.ipv4.ip_forward", "0")
    (trouble,) = machine.settings.troubles()
    assert trouble.code == "kernel-settings"
    assert "net.ipv4.ip_forward is 0 instead of 1" in trouble.message
    machine.put("net.ipv4.ip_forward", "1")
    assert machine.codes() == []


def test_a_setting_that_the_kernel_does_not_have_is_told(machine):
    (machine.proc / "net/ipv4/ip_forward").unlink()
    (trouble,) = machine.settings.troubles()
    assert "net.ipv4.ip_forward is not there instead of 1" in trouble.message
    assert machine.settings.now()[0].value is None


def test_many_wrong_settings_are_counted_not_all_named(machine):
    machine.files[0].write_text("".join(f"a.b{number} = 1\n" for number in range(20)))
    (trouble,) = machine.settings.troubles()
    assert trouble.message.count("is not there") == 5
    assert "and 15 more" in trouble.message


def test_a_table_that_was_not_sized_is_told(machine):
    machine.files[1].unlink()
    assert machine.codes() == ["kernel-untuned"]


def test_where_settings_are_not_ours_nothing_is_told(tmp_path):
    for settings in (KernelSettings(), KernelSettings([tmp_path / "none", tmp_path / "neither"])):
        assert settings.now() == []
        assert list(settings.troubles()) == []


def test_sizing_twice_is_sizing_once(machine):
    before = machine.files[1].read_text()
    (machine.proc / "net/netfilter/nf_conntrack_max").chmod(0o400)
    assert size_table(GIB, machine.files[1], machine.proc) == []
    assert machine.files[1].read_text() == before


def test_what_cannot_be_set_is_said_and_the_rest_is_set(machine):
    (machine.proc / "net/netfilter/nf_conntrack_buckets").unlink()
    (machine.proc / "net/netfilter/nf_conntrack_buckets").mkdir()
    (failure,) = size_table(4 * GIB, machine.files[1], machine.proc)
    assert failure == f"{BUCKETS} = 1048576: Is a directory"
    assert (machine.proc / "net/netfilter/nf_conntrack_max").read_text() == "1048576"
    assert machine.codes() == ["kernel-settings"]


def test_other_files_can_be_named(monkeypatch, machine):
    monkeypatch.setenv("SLUICE_SYSCTL", ":".join(map(str, machine.files)))
    assert len(KernelSettings.from_environment().now()) == 3
    monkeypatch.delenv("SLUICE_SYSCTL")
    assert KernelSettings.from_environment()._files == [
        Path("/usr/lib/sysctl.d/50-sluice.conf"),
        Path("/run/sluice-kernel/memory.conf"),
    ]
