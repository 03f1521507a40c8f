"""Run a shell command whose ``python`` forks this process, which has imported torch already.

    python tests/warm_python.py bash scripts/real_gpu.sh

The longer scripts start dozens of Python programs. Each would spend seconds on the same imports,
several times as long as the tiny models of the tests take.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

CLIENT = f"""#!{sys.executable} -SE
import json, os, socket, sys
folder = os.path.dirname(os.path.abspath(__file__))
if sys.argv[1] == "-c":  # scripts/environment.sh asks where python is
    sys.exit(print(folder))
with socket.socket(socket.AF_UNIX) as server:
    server.connect(folder + "/socket")
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8) or 1))
"""


def main() -> None:
    """Run the command and exit with its status."""
    import torch  # noqa: F401 - for the forks
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        client = Path(folder, "python")
        client.write_text(CLIENT)
        client.chmod(0o755)
        server.bind(f"{folder}/socket")
        server.listen()
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        own = {"PYTHON_ENV": "system", "PYTHON": str(client)}
        status = subprocess.run(sys.argv[1:], env=os.environ | own).returncode
    sys.exit(status)


def serve(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client:
            if os.fork() == 0:
                run_program(client)


def run_program(client: socket.socket) -> None:
    """Run the program that ``client`` asks for as if it were started there; does not return."""
    status: object = 1
    try:
        _, files, *_ = socket.recv_fds(client, 1, 3)
        argv, folder, environment = json.load(client.makefile())
        for target, file in enumerate(files):
            os.dup2(file, target)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv, sys.path[0] = argv, os.path.dirname(os.path.abspath(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        client.sendall(str(status).encode())
        os._exit(0)


if __name__ == "__main__":
    main()
