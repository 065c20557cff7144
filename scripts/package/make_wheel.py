"""make_wheel.py PREFIX METADATA DIR: makes a wheel in DIR of an installation in PREFIX, and prints its path.

bin/ goes to where pip puts programs, the rest to where it puts data, below the same prefix: an environment that the
wheel is installed into holds the files of PREFIX. The same files give the same wheel; its times are
$SOURCE_DATE_EPOCH.
"""
import base64
import hashlib
import os
import pathlib
import platform
import sys
import time
import zipfile


def wheel_tag():
    """Any Python 3, and this machine's libc or a later one: a C++ library as new as the compiler's comes with it."""
    name, version = platform.libc_ver()
    if name != "glibc":
        sys.exit(f"make_wheel.py: this system's C library is {name or 'unknown'}, and wheels are named after a glibc")
    return f"py3-none-manylinux_{'_'.join(version.split('.')[:2])}_{platform.machine()}"


def field_of(metadata, name):
    return next(line.split(": ", 1)[1] for line in metadata.splitlines() if line.startswith(name + ": "))


def main(prefix, metadata_path, directory):
    prefix = pathlib.Path(prefix)
    metadata = pathlib.Path(metadata_path).read_text(encoding="utf-8")
    name = f"{field_of(metadata, 'Name')}-{field_of(metadata, 'Version')}"
    tag = wheel_tag()
    path = pathlib.Path(directory) / f"{name}-{tag}.whl"
    moment = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:

        def add(member, data, mode=0o644):
            info = zipfile.ZipInfo(member, moment)
            info.external_attr = (0o100000 | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(info, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            records.append(f"{member},sha256={digest},{len(data)}\n")

        for file in sorted(prefix.rglob("*")):
            if not file.is_file():
                continue
            parts = file.relative_to(prefix).parts
            scheme = ("scripts", *parts[1:]) if parts[0] == "bin" else ("data", *parts)
            add("/".join((f"{name}.data", *scheme)), file.read_bytes(), 0o755 if os.access(file, os.X_OK) else 0o644)
        add(f"{name}.dist-info/METADATA", metadata.encode())
        add(f"{name}.dist-info/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: make_wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n".encode())
        records.append(f"{name}.dist-info/RECORD,,\n")
        record = zipfile.ZipInfo(f"{name}.dist-info/RECORD", moment)
        record.external_attr = 0o100644 << 16
        wheel.writestr(record, "".join(records))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
