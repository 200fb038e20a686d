# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stored password costs an attacker who has the file."""

from agent.access import Access


def test_hashes_are_argon2id_at_or_above_the_recommended_minimum(memory_path):
    access = Access.open(memory_path)
    access.provision(password="correct horse battery")
    hashed = access._hash("admin")
    access.close()
    assert hashed.startswith("$argon2id$v=19$m=32768,t=3,p=1$")
