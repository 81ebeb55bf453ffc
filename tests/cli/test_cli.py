"""The command itself: its options, `oxlip doctor`, `oxlip bench`."""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points, version

import oxlip
import pytest
from oxlip import _bench, _cli, _doctor


def output(capsys: pytest.CaptureFixture[str], *command: str, status: int = 0) -> tuple[str, str]:
    if status:
        with pytest.raises(SystemExit) as ended:
            _cli.main(command)
        assert ended.value.code == status
    else:
        _cli.main(command)
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_is_installed_as_a_command() -> None:
    [command] = entry_points(group="console_scripts", name="oxlip")
    assert command.load() is _cli.main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"oxlip {version('oxlip')}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["run", "-q"], ["run", "-m"], ["fly"]])
def test_says_what_is_missing(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    out, err = output(capsys, *command, status=2)
    assert out == ""
    assert "error: " in err


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OXLIP_DRIVER", raising=False)
    out, _ = output(capsys, "doctor")
    loop = oxlip.EventLoop()
    loop.close()
    assert f"driver        {loop.driver}: {loop._driver_reason}\n" in out
    assert "OXLIP_DRIVER  not set\n" in out
    assert sys.executable in out
    assert re.search(r"^open files +\d+", out, re.MULTILINE)
    assert re.search(r"^backlog +\d+", out, re.MULTILINE)


def test_doctor_follows_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OXLIP_DRIVER", "poll")
    out, _ = output(capsys, "doctor")
    assert "driver        poll: " in out
    assert "OXLIP_DRIVER  poll\n" in out


def test_doctor_with_a_wrong_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OXLIP_DRIVER", "abacus")
    out, _ = output(capsys, "doctor", status=1)
    assert re.search(r"^driver +none: .*abacus", out, re.MULTILINE)


def test_doctor_knows_every_driver() -> None:
    with pytest.raises(ValueError, match="abacus") as refused:
        oxlip.EventLoop("abacus")
    _, _, known = str(refused.value).rpartition("one of ")
    shown = [row.partition(":")[0] for row in _doctor.drivers()]
    assert known.split(", ") == shown


def test_bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "ROUNDS", 1)
    out, _ = output(capsys, "bench")
    rows = re.findall(r"^(\w+) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.MULTILINE)
    assert [row[0] for row in rows] == ["call_soon", "timers", "echo"]
    assert all(float(figure) > 0 for row in rows for figure in row[1:])
