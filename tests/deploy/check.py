"""What the parts of deploy/ have to agree on: with each other, and with the program."""

import configparser
import os
import pathlib
import re
import subprocess
import sys

import yaml

PROGRAM = os.environ["PHASEGATE_PROGRAM"]
WORK = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).parent.parent.parent
# The server has drained after this, and then finishes what it was given (docs/operating.md).
DRAIN_SECONDS = 20

documents = list(yaml.safe_load_all((WORK / "rendered.yaml").read_text()))


def the(kind, name=None):
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} documents of {kind} {name or ''}"
    return found[0]


def probes_ask_ports_that_there_are(container):
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports, probe
    for service in (d for d in documents if d["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, service["metadata"]["name"]


def services_and_policies_mean_the_pod(labels):
    selectors = [d["spec"]["selector"] for d in documents if d["kind"] == "Service"]
    selectors.append(the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector and selector.items() <= labels.items(), selector


def nothing_is_granted(pod, container):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    # Each start would open the data directory to the group otherwise.
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    granted = container["securityContext"]
    assert granted["allowPrivilegeEscalation"] is False
    assert granted["readOnlyRootFilesystem"] is True
    assert granted["capabilities"] == {"drop": ["ALL"]}


def image_has_a_version(container):
    name, _, tag = container["image"].partition(":")
    assert name and tag and tag != "latest", container["image"]


def settings_are_taken(pod, container):
    """With the files where the pod has them, but for the root."""
    root = WORK / "root"
    config = the("ConfigMap")["data"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    folders = {name: root / path.lstrip("/") for name, path in mounts.items()}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for name, text in config.items():
        path = folders["config"] / name
        path.write_text(re.sub(r"(?<=: )/(?=etc|var)", f"{root}/", text))
        path.chmod(0o644)
    key, certificate = folders["tls"] / "tls.key", folders["tls"] / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=phasegate", "-addext", "subjectAltName=DNS:phasegate",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    key.chmod(0o400)
    secret = next(v for v in pod["volumes"] if v["name"] == "tls")["secret"]
    assert secret["defaultMode"] == 0o400
    arguments = [argument.replace("/etc/", f"{root}/etc/") for argument in container["args"]]
    assert arguments[0] == "serve"
    check(arguments[1:])
    settings = yaml.safe_load(config["phasegate.yaml"])
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert settings["listen"].rsplit(":", 1)[1] == ports["api"]
    assert settings["metrics-listen"].rsplit(":", 1)[1] == ports["metrics"]
    assert settings["data"].startswith(mounts["data"] + "/"), "the root of a volume is not ours"


def check(arguments):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PHASEGATE_")}
    done = subprocess.run(
        [PROGRAM, "config", "check", *arguments], env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # That it would have said so.
    broken = WORK / "broken.yaml"
    broken.write_text("memory: true\nno-such-setting: 1\n")
    refused = subprocess.run(
        [PROGRAM, "config", "check", "--config", broken], env=clean, capture_output=True, text=True
    )
    assert refused.returncode == 78 and "no-such-setting" in refused.stderr, refused.stderr


def unit_of_systemd():
    text = (ROOT / "deploy/systemd/phasegate.service").read_text()
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > DRAIN_SECONDS
    assert service["RestartPreventExitStatus"].split() == ["65", "78"]
    assert service["ExecStartPre"].split()[1:3] == ["config", "check"]
    same = service["ExecStart"].split()[2:]
    assert same == service["ExecStartPre"].split()[3:], "what is checked is what is started"


stateful = the("StatefulSet")["spec"]
pod, = [stateful["template"]["spec"]]
container, = pod["containers"]
assert stateful["replicas"] == 1, "a data directory belongs to one server"
assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS
assert pod["enableServiceLinks"] is False
assert {"Retain"} == set(stateful["persistentVolumeClaimRetentionPolicy"].values())
probes_ask_ports_that_there_are(container)
services_and_policies_mean_the_pod(stateful["template"]["metadata"]["labels"])
nothing_is_granted(pod, container)
image_has_a_version(container)
settings_are_taken(pod, container)
unit_of_systemd()
print("the parts agree, and the program takes the settings")
