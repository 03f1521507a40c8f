"""A hub that is out of reach, or does not give the model, is one line and one request."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from screl.core.io import UserError
from screl.models.hub import reach_hub
from tests.conftest import MINI_MODEL, run_script

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    reach_hub.cache_clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Return a function that makes a hub here answer with a status, and lists its requests."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        status, headers_of_hub = 200, {}

        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(self.status)
            for key, value in self.headers_of_hub.items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, *parts: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(status: int, **headers: str) -> list[str]:
        Answer.status = status
        Answer.headers_of_hub = {key.replace("_", "-"): value for key, value in headers.items()}
        return asked

    set_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield answer
    server.shutdown()
    server.server_close()


def set_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {"X_Error_Code": "GatedRepo"}, "ask for access at http.*/org/model, then run: hf au"),
        (403, {"X_Error_Code": "GatedRepo"}, "only to users whom its owner has let in"),
        (403, {}, "hf auth login"),
        (401, {"X_Error_Code": "RepoNotFound"}, r"nor a model on .* \(401\); check the spelling"),
        (401, {}, "if the model is private, run: hf auth login"),
        (404, {"X_Error_Code": "RepoNotFound"}, "neither a folder here nor a model on"),
        (404, {}, "neither a folder here nor a model on"),
        (404, {"X_Error_Code": "EntryNotFound"}, "has no config.json on"),
        (503, {}, "answered 503; try again later, or download it"),
    ],
)
def test_what_the_hub_answers_is_one_line_after_one_request(
    hub: Callable[..., list[str]], status: int, headers: dict[str, str], message: str
) -> None:
    asked = hub(status, **headers)
    with pytest.raises(UserError, match=message) as error:
        reach_hub("org/model")
    assert str(error.value).startswith("org/model: ")
    assert "\n" not in str(error.value)
    assert asked == ["/org/model/resolve/main/config.json"]


def test_a_model_on_the_hub_is_asked_for_once(hub: Callable[..., list[str]]) -> None:
    asked = hub(200, ETag='"1"', X_Repo_Commit=COMMIT)
    reach_hub("org/model")
    reach_hub("org/model")
    assert len(asked) == 1


def test_what_cannot_be_a_hub_id_is_refused() -> None:
    with pytest.raises(UserError, match="neither a folder here nor a hub id"):
        reach_hub("org/two words")


def fill_cache(home: Path) -> None:
    """Put the miniature's model into a hub cache."""
    repository = home / "hub/models--org--model"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "snapshots" / COMMIT).symlink_to(MINI_MODEL)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)


NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NO_HUB, "cannot reach http://127.0.0.1:9 ([Errno 111] Connection refused); on a machine "),
        ({"HF_HUB_OFFLINE": "1"}, "not in the cache"),
    ],
)
def test_without_a_network_the_script_says_so_at_once(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    done = run_script("train.py", "--doctor", "org/model", HF_HOME=str(tmp_path), **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: org/model: " + message)
    assert "hf download org/model --local-dir DIR" in line


def test_without_a_network_the_cache_serves_after_one_line(tmp_path: Path) -> None:
    fill_cache(tmp_path)
    done = run_script("train.py", "--doctor", "org/model", HF_HOME=str(tmp_path), **NO_HUB)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "org/model: cannot reach http://127.0.0.1:9; the copy in the cache is used"
    ]
    assert "no mismatch" in done.stdout
