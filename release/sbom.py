"""The bill of materials that each wheel carries: CycloneDX 1.6, in .dist-info/sboms (PEP 770).

It names what is compiled into the module and where that came from, with our patches of libssh2, so
that a scanner finds a vulnerable version without knowing hussh.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from release.static_libraries import read_lock, reasons

__all__ = ["make_sbom"]


def make_sbom(content: dict[str, bytes], info: str, source: Path) -> bytes:
    """Return the document.

    Args:
        content: the files of the wheel.
        info: the name of its .dist-info folder.
        source: the unpacked source distribution that it was built from.
    """
    metadata = content[f"{info}/METADATA"].decode()
    name, version = (
        re.search(rf"^{key}: (.+)$", metadata, re.MULTILINE)[1]  # type: ignore[index]
        for key in ("Name", "Version")
    )
    libssh2 = json.loads((source / "vendor/libssh2.lock").read_text())
    static = read_lock()
    components = [
        {
            **_component("libssh2", libssh2["upstream"]["version"], "BSD-3-Clause"),
            "hashes": [{"alg": "SHA-256", "content": libssh2["upstream"]["sha256"]}],
            "cpe": f"cpe:2.3:a:libssh2:libssh2:{libssh2['upstream']['version']}:*:*:*:*:*:*:*",
            "pedigree": {
                "patches": [
                    {"type": "unofficial", "diff": {"url": f"vendor/patches/{patch}"}}
                    for patch in libssh2["patches"]
                ]
            },
        },
        *(
            {
                **_component(each, entry["version"], entry["license"]),
                "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
                "cpe": entry["cpe"],
            }
            for each, entry in static.items()
        ),
    ]
    root = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": root,
                "name": name,
                "version": version,
                "purl": root,
            }
        },
        "components": components,
        "dependencies": [
            {"ref": root, "dependsOn": [str(each["bom-ref"]) for each in components]},
        ],
        "vulnerabilities": [
            *_statements("libssh2", libssh2["upstream"]["version"], _libssh2_reasons(libssh2)),
            *(
                statement
                for each, entry in static.items()
                for statement in _statements(each, entry["version"], reasons(entry["cves"]))
            ),
        ],
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _component(name: str, version: str, licence: str) -> dict[str, Any]:
    purl = f"pkg:generic/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": licence}}],
    }


def _libssh2_reasons(lock: dict[str, Any]) -> dict[str, str]:
    return {
        cve: f"patched by {known['patch']}"
        if "patch" in known
        else f"not linked in: {known['file']}"
        for cve, known in lock["cves"].items()
    }


def _statements(name: str, version: str, reasons: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a scanner should know of vulnerabilities of that version (VEX)."""
    found = []
    for cve, reason in reasons.items():
        patched = str(reason).startswith("patched")
        analysis = {"state": "resolved" if patched else "not_affected", "detail": str(reason)}
        if not patched:
            is_there = not str(reason).startswith("not linked in")
            analysis["justification"] = "code_not_reachable" if is_there else "code_not_present"
        found.append(
            {
                "id": cve,
                "source": {"name": "NVD", "url": f"https://nvd.nist.gov/vuln/detail/{cve}"},
                "analysis": analysis,
                "affects": [{"ref": f"pkg:generic/{name}@{version}"}],
            }
        )
    return found
