"""How FTP servers list directories."""

from __future__ import annotations

import pytest

from tesk.storage.ftp_listing import Listed, UnknownListing, machine_listing, plain_listing


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("type=file;size=3;modify=20240101000000; a b", Listed("a b", "file")),
        ("Type=DIR;Perm=el; d", Listed("d", "directory")),
        ("type=OS.unix=slink:/x;unique=1; link", Listed("link", "link", "1")),
        ("type=OS.unix=socket; s", Listed("s", "other")),
        ("type=file; ", None),
    ],
)
def test_machine_listing(line: str, listed: Listed | None) -> None:
    if listed is None:
        with pytest.raises(UnknownListing):
            list(machine_listing([line]))
    else:
        assert list(machine_listing(["type=cdir; .", line, "type=pdir; .."])) == [listed]


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("-rw-r--r--   1 ftp      ftp           123 Jan  5 10:00 a", Listed("a", "file")),
        ("-rw-r--r--   1 ftp      ftp             0 Jan 15  2023 a b  c", Listed("a b  c", "file")),
        ("-rw-r--r--   1 ftp      ftp             0 Jan 15  2023  leading", Listed(" leading", "file")),
        ("-rw-r--r-- 1 some-one domain users 12 Dec 31 23:59 x", Listed("x", "file")),
        ("-rw-r--r--+ 1 0 0 12 2024-02-03 10:00 x", Listed("x", "file")),
        ("-rw-r--r--. 1 0 0 5000000000 3 Feb 10:00 x", Listed("x", "file")),
        ("drwxrwxrwt   2 0        0            4096 Mar 01  2024 tmp", Listed("tmp", "directory")),
        ("lrwxrwxrwx   1 0 0 1 Mar 01  2024 link -> there", Listed("link", "link")),
        ("crw-rw-rw-   1 0 0 1, 3 Mar 01  2024 null", Listed("null", "other")),
        ("-rw-r--r--   1 ftp      ftp           123 Jan  5 10:00 2023 10:00 x", Listed("2023 10:00 x", "file")),
        ("01-05-24  10:00AM       <DIR>          dir name", Listed("dir name", "directory")),
        ("01-05-2024  10:00                  1234 x.txt", Listed("x.txt", "file")),
    ],
)
def test_plain_listing(line: str, listed: Listed) -> None:
    assert list(plain_listing(["total 12", line])) == [listed]


@pytest.mark.parametrize("line", ["x", "-rw-r--r-- 1 0 0 12 Jan  5 10:00 a/b", "550 no"])
def test_what_nobody_understands_is_no_empty_directory(line: str) -> None:
    with pytest.raises(UnknownListing):
        list(plain_listing([line]))


def test_the_directory_itself_is_not_in_it() -> None:
    lines = ["drwxr-xr-x 2 0 0 4096 Mar 01  2024 .", "drwxr-xr-x 2 0 0 4096 Mar 01  2024 .."]
    assert list(plain_listing(lines)) == []
