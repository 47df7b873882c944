"""`s3`: objects in buckets, through obstore (Rust's object_store). Keys are taken as they stand in the URL."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from tesk.storage.base import Entry, Fetched, Source
from tesk.storage.budget import Budget
from tesk.storage.errors import StorageError, redact, shown
from tesk.storage.local import Workers, write_all
from tesk.storage.options import StorageOptions
from tesk.storage.retry import Passing, retrying

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store

__all__ = ["S3Scheme"]

_BLOCK = 4 << 20
_PART = 8 << 20
_MOST_PARTS = 9_000  # S3 allows 10,000
_PARTS_AT_ONCE = 3
_PART_TIMEOUT = timedelta(minutes=10)
_ABORT_TIMEOUT = 20.0


class _Place(NamedTuple):
    bucket: str
    key: str


class S3Scheme:
    """Files in S3. obstore itself tries requests again, and goes on with a download that was cut."""

    def __init__(self, options: StorageOptions, workers: Workers) -> None:
        self._options = options
        self._workers = workers
        self._stores: dict[tuple[str, bool], S3Store] = {}
        self._budget = Budget(options.memory)

    async def walk(self, url: str) -> AsyncIterator[Entry]:
        """See `Scheme.walk`. A key that ends with a slash is an (empty) directory."""
        import obstore

        place = _place(url)
        prefix = place.key.rstrip("/")
        store = self._store(place.bucket)
        found = not prefix
        with self._spoken("list", url):
            async for page in obstore.list(store, prefix=prefix or None):
                for one in page:
                    found = True
                    relative = one["path"][len(prefix) :].lstrip("/")
                    if not relative:
                        continue
                    marker = one["size"] == 0 and not await _is_object(store, one["path"])
                    yield Entry(relative, "DIRECTORY" if marker else "FILE")
            if not found and await _is_object(store, prefix):
                raise StorageError(f"{redact(url)} is a file, not a directory")
        if not found:
            raise StorageError(f"{redact(url)} does not exist", not_found=True)

    async def fetch(self, url: str, target: int) -> Fetched:
        """See `Scheme.fetch`."""
        place = self._file(url)
        download = _Download(self._store(place.bucket), place.key, target, self._workers, self._options.block)

        async def attempt() -> None:
            with self._spoken("read", url):
                await download.go_on()

        try:
            await retrying(attempt, self._options.tries())
        except StorageError as error:
            if error.not_found and await self._is_prefix(place, url):
                raise StorageError(f"{redact(url)} is a directory, not a file") from error
            raise
        return Fetched(download.at)

    async def deliver(self, source: Source, url: str) -> None:
        """See `Scheme.deliver`. An upload that fails or is cancelled is taken back."""

        place = self._file(url)
        store = self._store(place.bucket, writes=True)
        part = max(_PART, source.size // _MOST_PARTS)
        at_once = max(1, min(_PARTS_AT_ONCE, self._options.memory // part - 1))
        held = source.size if source.size <= _PART else part * (at_once + 1)
        async with self._budget.lent(held):
            with self._spoken("write", url):
                if source.size <= _PART:
                    await self._put(store, place.key, source, url)
                else:
                    await self._put_parts(store, place.key, source, part, at_once)

    async def make_directory(self, url: str) -> None:
        """Does nothing: S3 has keys only."""

    async def close(self) -> None:
        """See `Scheme.close`."""
        self._stores.clear()

    async def _put(self, store: S3Store, key: str, source: Source, url: str) -> None:
        import obstore

        whole = await self._workers.run(lambda _: os.pread(source.fd, source.size, 0))
        if len(whole) != source.size:
            raise StorageError(f"cannot write {redact(url)}: the file changed its size while it was read")
        await obstore.put_async(store, key, whole, use_multipart=False)

    async def _put_parts(self, store: S3Store, key: str, source: Source, part: int, at_once: int) -> None:
        import obstore

        parts = _Parts(source, self._workers)
        upload = asyncio.ensure_future(
            obstore.put_async(store, key, parts.blocks(), chunk_size=part, max_concurrency=at_once)
        )
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            await parts.give_up(upload)
            raise

    def _file(self, url: str) -> _Place:
        place = _place(url)
        if not place.key or place.key.endswith("/"):
            raise StorageError(f"{redact(url)} cannot be the URL of a file: it names no key, or one that ends with /")
        return place

    async def _is_prefix(self, place: _Place, url: str) -> bool:
        import obstore

        with self._spoken("list", url):
            async for page in obstore.list(self._store(place.bucket), prefix=place.key, chunk_size=1):
                return bool(page)
        return False

    def _store(self, bucket: str, *, writes: bool = False) -> S3Store:
        """The bucket's client. A stall shows as a read that takes long, and in an upload as a part that does."""
        found = self._stores.get((bucket, writes))
        if found is None:
            from obstore.store import S3Store

            options, s3 = self._options, self._options.s3
            stall = timedelta(seconds=options.stall_timeout)
            endpoint = s3.endpoint or _aws_endpoint(s3.region)
            found = S3Store(
                bucket,
                endpoint=endpoint,
                aws_endpoint_url_s3=endpoint,  # obstore reads the environment too, where this one would win
                region=s3.region,
                virtual_hosted_style_request=False,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=options.connect_timeout),
                    **({"timeout": _PART_TIMEOUT} if writes else {"timeout": timedelta(days=7), "read_timeout": stall}),
                },
                retry_config={
                    "max_retries": options.retries,
                    "retry_timeout": timedelta(minutes=4) + stall * options.retries,
                    "backoff": {
                        "init_backoff": timedelta(seconds=options.retry_delay),
                        "max_backoff": timedelta(seconds=30),
                        "base": 2,
                    },
                },
                **self._credentials(),
            )
            self._stores[bucket, writes] = found
        return found

    def _credentials(self) -> dict[str, Any]:
        s3 = self._options.s3
        if s3.access_key_id and s3.secret_access_key:
            credential = {
                "access_key_id": s3.access_key_id,
                "secret_access_key": s3.secret_access_key,
                "token": s3.session_token,
                "expires_at": None,
            }
            return {"credential_provider": lambda: credential, "skip_signature": False}
        return {"skip_signature": not s3.ambient}

    @contextmanager
    def _spoken(self, verb: str, url: str) -> Iterator[None]:
        """Turn obstore's errors into sentences about `url`."""
        from obstore.exceptions import BaseError

        try:
            yield
        except Passing as fault:
            if isinstance(fault.__cause__, BaseError):
                fault.error = self._said(verb, url, str(fault.__cause__))
            raise
        except (BaseError, FileNotFoundError) as error:
            raise self._said(verb, url, str(error)) from error
        except ValueError as error:
            raise StorageError(f"cannot {verb} {redact(url)}: this key cannot be used here") from error

    def _said(self, verb: str, url: str, text: str) -> StorageError:
        status = re.search(r"status code: (\d{3}) ?([^:\n]*)", text)
        code = re.search(r"<Code>([^<]{1,100})</Code>", text)
        if status is None:
            return StorageError(f"cannot {verb} {redact(url)}: {self._unreached(text)}")
        name = code[1] if code else ""
        if status[1] == "404" and name == "NoSuchBucket":
            return StorageError(
                f"cannot {verb} {redact(url)}: the bucket '{_place(url).bucket}' does not exist", not_found=True
            )
        if status[1] == "404" and verb == "read" and name in ("", "NoSuchKey"):
            return StorageError(f"{redact(url)} does not exist", not_found=True)
        answered = f"{status[1]} {name or status[2].strip()}".rstrip()
        hint = ""
        if status[1] in ("401", "403") and not (self._options.s3.access_key_id or self._options.s3.ambient):
            hint = " (there are no S3 credentials here, so nobody was asking)"
        return StorageError(f"cannot {verb} {redact(url)}: the server answered {shown(answered)}{hint}")

    def _unreached(self, text: str) -> str:
        endpoint = self._options.s3.endpoint or _aws_endpoint(self._options.s3.region)
        if "timed out" in text or "TimedOut" in text:
            return f"{redact(endpoint)} did not answer in time"
        if "error sending request" in text or "body error" in text or "decoding response body" in text:
            return f"{redact(endpoint)} cannot be reached, or cut the connection"
        return shown(text.partition("\n")[0].rpartition(" - ")[2])


class _Download:
    """One object on its way. A request is tried again by obstore; an answer that breaks off, here."""

    def __init__(self, store: S3Store, key: str, target: int, workers: Workers, block: int) -> None:
        self.at = 0
        self._store = store
        self._key = key
        self._target = target
        self._workers = workers
        self._block = block
        self._etag: str | None = None

    async def go_on(self) -> None:
        """Ask for what is missing and write it; for all of it, where the object may have changed."""
        import obstore
        from obstore.exceptions import GenericError, PreconditionError

        options: GetOptions = {}
        if self.at and self._etag:
            options = {"range": {"offset": self.at}, "if_match": self._etag}
        else:
            self.at = 0
            os.ftruncate(self._target, 0)
        try:
            answer = await obstore.get_async(self._store, self._key, options=options)
        except PreconditionError as error:
            self._etag = None
            raise Passing(StorageError(f"{shown(self._key)} changed while it was read")) from error
        self._etag = answer.meta["e_tag"] or None
        try:
            async for block in answer.stream(self._block):
                await self._write(block)
        except GenericError as error:
            raise Passing(StorageError(str(error))) from error

    async def _write(self, block: bytes) -> None:
        at = self.at
        await self._workers.run(lambda _: write_all(self._target, block, at))
        self.at += len(block)


class _Parts:
    """A source as the blocks of an upload that can be given up between two of them."""

    def __init__(self, source: Source, workers: Workers) -> None:
        self._source = source
        self._workers = workers
        self._stopped = False

    async def blocks(self) -> AsyncIterator[bytes]:
        at = 0
        while at < self._source.size and not self._stopped:
            wanted, start = min(_BLOCK, self._source.size - at), at
            block = await self._workers.run(
                lambda _, start=start, wanted=wanted: os.pread(self._source.fd, wanted, start)  # type: ignore[misc]
            )
            if not block:
                raise StorageError("the file changed its size while it was read")
            yield block
            at += len(block)
        if self._stopped:
            raise StorageError("the upload was given up")

    async def give_up(self, upload: asyncio.Future[Any]) -> None:
        """Let `upload` fail by itself, since only then obstore tells S3 to drop the parts; wait for that a
        while.
        """
        self._stopped = True
        _, running = await asyncio.wait([upload], timeout=_ABORT_TIMEOUT)
        if running:
            upload.cancel()
        elif not upload.cancelled():
            upload.exception()


async def _is_object(store: S3Store, key: str) -> bool:
    import obstore

    try:
        await obstore.head_async(store, key)
    except FileNotFoundError:
        return False
    return True


def _place(url: str) -> _Place:
    bucket, _, key = url.partition("://")[2].partition("/")
    if not bucket:
        raise StorageError(f"{redact(url)} names no bucket: write s3://bucket/key")
    if key.startswith("/") or "//" in key or any(one in (".", "..") for one in key.split("/")):
        raise StorageError(f"{redact(url)} cannot be used: its key has an empty part, '.' or '..' between slashes")
    return _Place(bucket.rpartition("@")[2], key)


def _aws_endpoint(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
