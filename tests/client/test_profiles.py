"""Which server is spoken with, as whom, and what a wrong file says."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tesk.client import Client, ClientError, ProfileError, Target, find_target
from tesk.client.profiles import credentials, profile_file, shown_address

FILE = """\
default: lab
profiles:
  lab:
    url: http://lab:8000
    token: ${LAB_TOKEN}
  cloud:
    url: https://cloud.example/tes
    user: ada
    password_file: cloud.pw
    timeout: 5
    verify: false
  keyed:
    url: http://keyed
    headers:
      X-Api-Key: ${KEY}-$${x}
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose file of profiles is FILE, with one secret in a file of its own."""
    directory = tmp_path / "tesk"
    directory.mkdir()
    (directory / "client.yaml").write_text(FILE)
    (directory / "cloud.pw").write_text("p4ss\n")
    (directory / "cloud.pw").chmod(0o600)
    return {"XDG_CONFIG_HOME": str(tmp_path), "LAB_TOKEN": "s3cret", "KEY": "k3y"}


@pytest.mark.parametrize(
    ("server", "profile", "changes", "url"),
    [
        ("http://given", None, {"TES_URL": "http://env", "TESK_PROFILE": "cloud"}, "http://given"),
        (None, "cloud", {"TES_URL": "http://env", "TESK_PROFILE": "lab"}, "https://cloud.example/tes"),
        (None, None, {"TESK_URL": "http://first", "TES_URL": "http://env"}, "http://first"),
        (None, None, {"TES_URL": "http://env", "TESK_PROFILE": "cloud"}, "http://env"),
        (None, None, {"TESK_PROFILE": "cloud", "FUNNEL_SERVER": "http://funnel"}, "https://cloud.example/tes"),
        (None, None, {"FUNNEL_SERVER": "http://funnel"}, "http://lab:8000"),
    ],
)
def test_the_nearest_word_counts(
    environ: dict[str, str], server: str | None, profile: str | None, changes: dict[str, str], url: str
) -> None:
    assert find_target(server, profile, {**environ, **changes}).url == url


def test_without_a_file_funnels_variable_counts_and_then_this_machine(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert find_target(environ=environ).url == "http://127.0.0.1:8000"
    assert find_target(environ={**environ, "FUNNEL_SERVER": "http://funnel:8000"}).url == "http://funnel:8000"


def test_an_address_borrows_no_credentials(environ: dict[str, str]) -> None:
    for target in (find_target("http://x", None, environ), find_target(None, None, {**environ, "TES_URL": "http://x"})):
        assert (target.token, target.user, target.headers) == (None, None, {})


def test_an_address_is_not_stopped_by_a_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("a: [")
    environ = {"TESK_CLIENT_CONFIG": str(tmp_path / "bad")}
    assert find_target("http://x", None, environ).url == "http://x"
    with pytest.raises(ProfileError):
        find_target(None, None, environ)


def test_an_only_profile_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("profiles: {one: {url: 'http://one'}}")
    assert find_target(environ={"TESK_CLIENT_CONFIG": str(tmp_path / "c")}).url == "http://one"


def sent_by(target: Target) -> httpx.Request:
    requests: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={})

    with Client(target, transport=httpx.MockTransport(server)) as client:
        client.service_info()
    return requests[-1]


def test_what_a_profile_says_is_sent(environ: dict[str, str]) -> None:
    lab = sent_by(find_target(None, "lab", environ))
    assert lab.headers["authorization"] == "Bearer s3cret"
    cloud = sent_by(find_target(None, "cloud", environ))
    assert cloud.headers["authorization"] == "Basic YWRhOnA0c3M="
    assert cloud.extensions["timeout"]["read"] == 5
    assert sent_by(find_target(None, "keyed", environ)).headers["x-api-key"] == "k3y-${x}"


def test_no_secret_is_ever_shown(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "c").write_text(
        "profiles: {p: {url: 'http://u:s3cret@h/?key=s3cret', headers: {A: s3cret}}, "
        "q: {url: 'http://q', token: s3cret}}"
    )
    environ["TESK_CLIENT_CONFIG"] = str(tmp_path / "c")
    file = profile_file(environ)
    assert file is not None
    said = [repr(file), repr(find_target(None, "p", environ)), repr(find_target(None, "q", environ))]
    said += [shown_address(one) + credentials(one) for one in file.profiles.values()]
    assert "s3cret" not in "".join(said)
    assert credentials(file.profiles["p"]) == "header A in the file, user in the url"
    assert credentials(file.profiles["q"]) == "token in the file"


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        ("profiles: {a: {url: 'http://a', token: s}}", 0o644, True),
        ("profiles: {a: {url: 'http://a', token: s}}", 0o640, True),
        ("profiles: {a: {url: 'http://a', token: s}}", 0o600, False),
        ("profiles: {a: {url: 'http://a', token: '${T}'}}", 0o644, False),
        ("profiles: {a: {url: 'http://a', headers: {Authorization: 'Bearer ${T}'}}}", 0o644, False),
        ("profiles: {a: {url: 'http://a', headers: {Authorization: 'Bearer s'}}}", 0o644, True),
        ("profiles: {a: {url: 'http://u:p@a'}}", 0o644, True),
        ("profiles: {a: {url: 'http://a', token_file: secret}}", 0o644, True),
        ("profiles: {a: {url: 'http://a'}}", 0o644, False),
    ],
)
def test_a_secret_that_others_can_read_is_warned_about(tmp_path: Path, text: str, mode: int, warned: bool) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0o604)
    file = tmp_path / "c"
    file.write_text(text)
    file.chmod(mode)
    warnings = find_target(environ={"TESK_CLIENT_CONFIG": str(file), "T": "t"}).warnings
    assert [("others can read it: chmod 600" in one) for one in warnings] == [True] * warned


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("a\nb: [", ["c:2: is not YAML: "]),
        ("profile: {}", ["c:1: unknown key 'profile' in the file; did you mean 'profiles'?"]),
        (
            "profiles:\n  a:\n    tokn: s3cret\n    url: http://a",
            ["c:3: unknown key 'tokn' in 'a'; did you mean 'token'?"],
        ),
        ("profiles:\n  a:\n    token: s3cret", ["c:2: 'a' has no 'url'"]),
        ("profiles:\n  a: http://a", ["c:2: 'a' must hold keys, one a line: url", "c:2: 'a' has no 'url'"]),
        ("profiles:\n  a: {url: x}\n  a: {url: y}", ["c:3: 'a' in 'profiles' is set twice; the first is in line 2"]),
        ("default: b\nprofiles:\n  a: {url: x}", ["c:1: 'default' must name a profile; there are: a."]),
        (
            "profiles:\n  a:\n    url: x\n    password: 12345\n    timeout: 0\n    verify: maybe",
            [
                "c:4: 'a.password' must be text; a number needs quotes.",
                "c:5: 'a.timeout' must be a number of seconds",
                "c:6: 'a.verify' must be true or false.",
                "c:2: 'a' has a password but no 'user'.",
            ],
        ),
        ("profiles:\n  a: {url: x, token: s3cret, token_file: y}", ["c:2: 'a' has both 'token' and 'token_file'"]),
        ("profiles:\n  a: {url: x, token: s3cret, user: y}", ["c:2: 'a' has both a token and a user"]),
        (
            "profiles:\n  a: {url: x, token: s3cret, headers: {authorization: y}}",
            ["c:2: 'a' has both an Authorization header and a token or user"],
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_lines_and_no_secret(tmp_path: Path, text: str, sentences: list[str]) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(ProfileError) as caught:
        find_target(environ={"TESK_CLIENT_CONFIG": str(tmp_path / "c")})
    assert len(caught.value.problems) == len(sentences)
    for problem, sentence in zip(caught.value.problems, sentences, strict=True):
        assert problem.startswith(f"{tmp_path}/{sentence}")
    assert "s3cret" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_what_a_profile_refers_to_must_be_there(environ: dict[str, str]) -> None:
    del environ["LAB_TOKEN"]
    with pytest.raises(ProfileError, match=r"client.yaml:5: the environment variable LAB_TOKEN is not set\.$"):
        find_target(None, "lab", environ)
    assert find_target(None, "keyed", environ).url == "http://keyed"
    Path(environ["XDG_CONFIG_HOME"], "tesk", "cloud.pw").unlink()
    with pytest.raises(ProfileError, match=r"client.yaml:9: .*cloud.pw cannot be read: No such file"):
        find_target(None, "cloud", environ)


def test_a_profile_that_is_not_there_is_told_with_those_that_are(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no profile 'x' \(--profile\); there are: lab, cloud, keyed"):
        find_target(None, "x", environ)
    with pytest.raises(ProfileError, match=r"no profile 'x' \(\$TESK_PROFILE\): .*client.yaml does not exist"):
        find_target(environ={"HOME": str(tmp_path / "none"), "TESK_PROFILE": "x"})
    with pytest.raises(ProfileError, match=r"although \$TESK_CLIENT_CONFIG names it"):
        find_target(environ={"TESK_CLIENT_CONFIG": "/nowhere"})


def test_certificates_and_headers_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(ClientError, match=r"certificates in /nowhere cannot be used: No such file"):
        Client(Target("https://x", ca="/nowhere"))
    with pytest.raises(ClientError, match=r"certificates in .*ca cannot be used"):
        Client(Target("https://x", ca=str(tmp_path / "ca")))
    with pytest.raises(ClientError, match="header 'Authorization' cannot be sent") as caught:
        Client(Target("http://x", token="s3cret\nX: y"))
    assert "s3cret" not in str(caught.value)
