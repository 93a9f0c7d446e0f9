"""Which cluster is meant, which token is at hand, and how a head's answers decide on the way in."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from rfray.engine import ray_start
from rfray.engine.cluster_address import ClusterAddress, chosen_address, host_and_port
from rfray.engine.cluster_probe import Answer, ask, auth_mode
from rfray.engine.cluster_token import Token, token_at_hand
from rfray.engine.ray_start import start_ray
from rfray.errors import UserError

WELCOME, NO_ENTRY, FOREIGN, NOTHING = (
    Answer.WELCOME, Answer.NO_ENTRY, Answer.FOREIGN, Answer.NOTHING,
)  # fmt: skip
TOKEN = Token("secret", "/home/me/.ray/auth_token")
HEAD = chosen_address("head:6379", {})


@pytest.mark.parametrize(
    ("option", "variable", "text", "where", "without"),
    [
        ("head:6379", None, "head:6379", "--address head:6379", "leave --address out"),
        ("head:6379", "other:1", "head:6379", "--address head:6379", "leave --address out"),
        ("auto", None, "auto", "--address auto", "leave --address out"),
        (None, "head:6379", "head:6379", "RAY_ADDRESS=head:6379", "unset RAY_ADDRESS"),
        (None, "auto", "auto", "RAY_ADDRESS=auto", "unset RAY_ADDRESS"),
        # As with Ray's own commands.
        ("auto", "head:6379", "head:6379", "RAY_ADDRESS=head:6379", "unset RAY_ADDRESS"),
    ],
)
def test_a_message_names_what_gave_the_address(option, variable, text, where, without):
    address = chosen_address(option, {"RAY_ADDRESS": variable} if variable else {})
    assert (address.text, address.where) == (text, where)
    refusal = str(address.refusal("no"))
    assert refusal.startswith(f"{where}: no (")
    assert without in refusal


@pytest.mark.parametrize(
    ("option", "environment"),
    [
        (None, {}),
        (None, {"RAY_ADDRESS": ""}),
        ("local", {"RAY_ADDRESS": "head:6379"}),
        (None, {"RAY_ADDRESS": "local"}),
    ],
)
def test_without_an_address_ray_starts_here(option, environment):
    assert chosen_address(option, environment) is None


@pytest.mark.parametrize(
    "text", ["nonsense", ":6379", "head:", "head:port", "head:0", "head:65536"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UserError, match="not an address of a Ray cluster"):
        host_and_port(ClusterAddress(text, f"--address {text}", ""))


def test_an_address_is_found_as_ray_finds_it():
    assert host_and_port(ClusterAddress("192.0.2.7:6379", "", "")) == "192.0.2.7:6379"
    assert host_and_port(ClusterAddress("[2001:db8::1]:6379", "", "")) == "[2001:db8::1]:6379"


def test_auto_where_nothing_runs_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services._find_address_from_flag", lambda flag: set())
    with pytest.raises(UserError, match=r"no Ray cluster runs on this machine .*ray start --head"):
        host_and_port(chosen_address("auto", {}))


def test_the_token_is_looked_for_where_ray_looks_and_in_its_order(tmp_path):
    named, home = tmp_path / "named", tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    default = home / ".ray" / "auth_token"
    named.write_text(" of the path \nand more")
    default.write_text("of home\n")
    environment = {
        "RAY_AUTH_TOKEN": " of the variable ",
        "RAY_AUTH_TOKEN_PATH": str(named),
        "HOME": str(home),
    }
    found = []
    while (token := token_at_hand(environment)) is not None:
        found.append((token.text, token.source))
        environment.pop(next(iter(environment)))
    assert found == [
        ("of the variable", "RAY_AUTH_TOKEN"),
        ("of the path", f"RAY_AUTH_TOKEN_PATH={named}"),
        ("of home", str(default)),
    ]


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_home_without_a_token_has_none(tmp_path, text):
    if text is not None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(text)
    assert token_at_hand({"HOME": str(tmp_path)}) is None
    assert token_at_hand({"HOME": str(tmp_path), "RAY_AUTH_TOKEN": " "}) is None


def test_a_token_file_that_is_named_must_hold_one(tmp_path):
    empty, missing, odd = tmp_path / "empty", tmp_path / "missing", tmp_path / "odd"
    empty.touch()
    odd.write_bytes(b"\xff\x00")
    for path, says in [
        (missing, "No such file or directory (name the file"),
        (tmp_path, "Is a directory"),
        (empty, "its first line is empty"),
        ("~/token", "No such file"),  # Ray expands no ~
        (odd, "characters that no token has"),
    ]:
        with pytest.raises(UserError) as refusal:
            token_at_hand({"RAY_AUTH_TOKEN_PATH": str(path)})
        assert str(refusal.value).startswith(f"RAY_AUTH_TOKEN_PATH={path}: ")
        assert says in str(refusal.value)


def test_a_home_that_is_no_folder_is_told(tmp_path):
    (tmp_path / ".ray" / "auth_token").mkdir(parents=True)
    with pytest.raises(UserError, match=r"auth_token: Ray's token cannot be read.*RAY_AUTH_TOKEN"):
        token_at_hand({"HOME": str(tmp_path)})


def test_no_message_and_no_repr_shows_the_token():
    assert "secret" not in repr(TOKEN)
    with pytest.raises(UserError) as refusal:
        auth_mode(HEAD, NO_ENTRY, TOKEN, NO_ENTRY)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("unasked", "token", "shown", "mode"),
    [
        (WELCOME, None, None, "disabled"),
        (WELCOME, TOKEN, None, "disabled"),
        (NO_ENTRY, TOKEN, WELCOME, "token"),
    ],
)
def test_who_is_let_in_joins_in_the_heads_mode(unasked, token, shown, mode):
    assert auth_mode(HEAD, unasked, token, shown) == mode


@pytest.mark.parametrize(
    ("unasked", "token", "shown", "what", "do"),
    [
        (NO_ENTRY, None, None, "asks for a token, but there is none", "set RAY_AUTH_TOKEN"),
        (
            NO_ENTRY,
            TOKEN,
            NO_ENTRY,
            f"another token than the one in {TOKEN.source}",
            "get-auth-token",
        ),
        (NO_ENTRY, TOKEN, NOTHING, "does not answer", "leave --address out"),
        (NO_ENTRY, TOKEN, FOREIGN, "is not the head", "leave --address out"),
        (NOTHING, None, None, "does not answer", "the port of `ray start --head`"),
        (FOREIGN, None, None, "is not the head", "the port of `ray start --head`"),
    ],
)
def test_who_is_not_let_in_is_told_why_and_what_to_do(unasked, token, shown, what, do):
    with pytest.raises(UserError) as refusal:
        auth_mode(HEAD, unasked, token, shown)
    assert refusal.value.where == "--address head:6379"
    assert what in refusal.value.what
    assert do in refusal.value.do


@pytest.fixture
def listener():
    """Something that takes connections and says `words`; "" for nothing at all."""
    servers = []

    def listen(words: bytes) -> str:
        # At every address: Ray takes this machine's own for 127.0.0.1.
        server = socket.create_server(("", 0))
        servers.append(server)

        def greet():
            kept = []
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return
                kept[-1].sendall(words)

        threading.Thread(target=greet, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for server in servers:
        server.close()


def test_what_is_no_head_is_known_at_once_and_silence_after_the_time(listener):
    assert ask(listener(b"SSH-2.0-OpenSSH_9.9\r\n"), None, 5) is Answer.FOREIGN
    assert ask(listener(b"HTTP/1.1 400 Bad Request\r\n\r\n"), TOKEN.text, 5) is Answer.FOREIGN
    before = time.monotonic()
    assert ask(listener(b""), None, 0.5) is Answer.NOTHING
    assert time.monotonic() - before < 2


def test_a_silent_server_is_refused_in_one_line_within_ten_seconds(listener, capfd):
    assert ray_start._ANSWER_SECONDS < 10
    before = time.monotonic()
    with pytest.raises(
        UserError, match="no Ray cluster answers: the program at this port does not answer"
    ):
        start_ray(listener(b""))
    assert time.monotonic() - before < 11
    assert capfd.readouterr() == ("", "")


def test_here_too_a_token_that_is_not_there_is_one_line(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH=.*No such file"):
        start_ray(None)


def test_here_ray_needs_a_home_that_it_can_write(monkeypatch):
    def no_home(**options):
        del options
        raise PermissionError(13, os.strerror(13), "/home/me/.ray")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", no_home)
    with pytest.raises(UserError) as refusal:
        start_ray(None)
    assert "Ray does not start: /home/me/.ray: Permission denied (Ray writes" in str(refusal.value)
