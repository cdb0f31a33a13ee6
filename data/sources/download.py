"""Fetches the Hanford Site files into a cache folder, verified by their sha256.

A file enters the cache only when its hash is the published one; a failed transfer
leaves nothing behind. Files already there with the right hash are not fetched again.
"""

from pathlib import Path

import pooch

from data.durable_files import StagingError
from data.sources.hanford import SHA256

# The four .mat files are listed by data/SHA256SUMS of that repository, and its
# data_generation.py reads all seven files from the same folder.
HANFORD_URL = "https://raw.githubusercontent.com/yeungyh/hanford_data/9eb79fb/data/"


def fetch_hanford(cache: Path, base_url: str = HANFORD_URL) -> Path:
    """Folder with the seven verified files, fetched where the cache lacks them.

    Args:
        cache: folder to keep the files in; created when needed.
        base_url: folder of the files on a server, ending in "/".

    Returns:
        `cache`, ready for `read_hanford`.

    Raises:
        StagingError: a file could not be fetched or differs from the published one.
    """
    registry = {name: f"sha256:{digest}" for name, digest in SHA256.items()}
    fetcher = pooch.create(path=cache, base_url=base_url, registry=registry)
    # not streamed: of a refused request pooch would leave the connection open
    downloader = pooch.HTTPDownloader(stream=False)
    for name in registry:
        try:
            fetcher.fetch(name, downloader=downloader)
        except (OSError, ValueError) as error:
            raise StagingError(
                f"{fetcher.get_url(name)} must be readable and unaltered to fill "
                f"{cache}; got {_describe(error)}. Fetch the files of the site by "
                "another way and name their folder by --data DIR."
            ) from error
    return cache


def _describe(error: OSError | ValueError) -> str:
    # pooch passes on the errors of requests, whose texts run over several lines
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, ValueError):
        return "a file with another sha256"
    known = {
        "ConnectionError": "no connection",
        "ConnectTimeout": "no connection",
        "ProxyError": "no connection",
        "SSLError": "no secure connection",
        "ReadTimeout": "no answer in time",
        "ChunkedEncodingError": "a transfer that broke off",
    }
    return known.get(type(error).__name__, f"{type(error).__name__} ({error})")
