"""Runs Python in a process of its own that is a fork of one which has imported the modules that it needs already.

That saves most of the time of a short command. It ends as every process does, through ``atexit``.
"""

import array
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_REQUEST = 1 << 20
Forked = tuple[dict[str, str], list[str]]


def run(arguments, preloaded, *, cwd, env=os.environ, text=None, timeout=100):
    """As ``subprocess.run([sys.executable, *arguments])``, with what it printed as text."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, ours:
        given.write((text or "").encode())
        given.seek(0)
        with theirs:
            request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
            files = [file.fileno() for file in (given, out, err, theirs)]
            _forking(preloaded)[0].sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        ours.settimeout(timeout)
        answers = ours.makefile()
        pid = int(answers.readline())
        try:
            code = int(answers.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read().decode(), err.read().decode())


@cache
def _forking(preloaded):
    """The way to the process that forks, which ends when this end of it is closed; and that process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for way in (ours, theirs):
        way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), *preloaded]
        return ours, subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])


def _serve(way: socket.socket) -> Forked:
    """Answer requests; returns in the forked process, with what that is to do."""
    while True:
        request, files, *_ = socket.recv_fds(way, LONGEST_REQUEST, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            way.close()
            if (job := _fork(json.loads(request), *files)) is not None:
                return job
        for file in files:
            os.close(file)
        _reap()


def _fork(job, given, out, err, answers):
    """Another fork, so that nobody else has to wait for the end of it. Returns what there is to do, in that."""
    if (pid := os.fork()) == 0:
        for number, file in enumerate((given, out, err)):
            os.dup2(file, number)
        for file in (given, out, err, answers):
            os.close(file)
        os.chdir(job["cwd"])
        return job["env"], job["arguments"]
    os.write(answers, f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(answers, f"{code}\n".encode())
    os._exit(0)


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become(env, arguments):
    """What a new interpreter with these arguments and this environment would do."""
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = arguments
    sys.path[0] = ""
    sys.path[1:1] = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part not in sys.path]
    if arguments[0] == "-m":
        del sys.argv[0]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        del sys.argv[1]
        _run(arguments[1], "<string>")
    else:
        sys.path[0] = str(Path(arguments[0]).parent)
        _run(Path(arguments[0]).read_text(encoding="utf-8"), arguments[0])


def _run(text, file):
    code, namespace = compile(text, file, "exec"), sys.modules["__main__"].__dict__
    namespace.clear()  # ours
    namespace.update({"__name__": "__main__", "__file__": file})
    exec(code, namespace)  # noqa: S102


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()  # else each fork walks all of these modules at its end, and copies their memory to do so
    _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))
