"""Cores: those that may be used, and how they are divided."""

import pytest

from cleangpt.machine import cores


def test_cores_are_those_of_the_quota_and_two_threads_of_a_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "_siblings", lambda cpu: str(cpu % 2))
    monkeypatch.setattr(cores, "_quota", lambda: None)
    assert cores.usable() == 2
    monkeypatch.setattr(cores, "_siblings", str)
    assert cores.usable() == 4
    monkeypatch.setattr(cores, "_quota", lambda: 1.5)
    assert cores.usable() == 2
    assert [cores.share(n) for n in (1, 2, 5)] == [2, 1, 1]


@pytest.mark.parametrize(("text", "wanted"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)])
def test_the_quota_of_a_container_is_read(tmp_path, text, wanted):
    (tmp_path / "cpu.max").write_text(text)
    assert cores._quota(tmp_path) == wanted
    assert cores._quota(tmp_path / "none") is None
