"""Why a server cannot be reached: address, key, proxy, DNS, TLS, or connection refused.

Causes are distinguished by the classes of the chained exceptions, never by their texts.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass


def url_fault(url: str) -> str | None:
    """Check a server's address without connecting.

    Args:
        url: the address.

    Returns:
        What is wrong, as the end of a sentence about the address; None if it is an HTTP address.
    """
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "must not contain blanks, line breaks or control characters"
    try:
        place = urlsplit(url)
        _ = place.port  # parsed on access
    except ValueError as error:
        return f"is not a valid address ({error})"
    if place.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    return None if place.hostname else "has no host"


def key_fault(variable: str) -> str | None:
    """Check the key in an environment variable; the text never shows it.

    A key is sent in a header, so it must be one line of ASCII.

    Args:
        variable: the variable's name; it may be unset.

    Returns:
        What is wrong, or None.
    """
    key = os.environ.get(variable, "")
    found = [
        what
        for what, wrong in (
            ("a line break", "\n" in key or "\r" in key),
            ("a blank", any(letter in " \t" for letter in key)),
            ("a letter that is not ASCII", not key.isascii()),
            ("a control character", any(ord(c) < 32 and c not in "\n\r\t" for c in key)),
        )
        if wrong
    ]
    if not found:
        return None
    return f"the environment variable {variable} holds {' and '.join(found)}, invalid in a key"


def proxy_of(url: str) -> str | None:
    """The proxy that the environment sets for an address.

    Args:
        url: the address.

    Returns:
        The proxy without user and password, or None if there is none for this host.
    """
    place = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if not proxy or not place.hostname or proxy_bypass(place.hostname):
        return None
    return _without_login(proxy)


def why_unreachable(error: BaseException, url: str, start: str) -> str:
    """Explain a failed connection by the innermost exception's class.

    Args:
        error: what the client raised.
        url: the server's address.
        start: how to start a server, for an address where nothing listens.

    Returns:
        One line.
    """
    place, proxy = urlsplit(url), proxy_of(url)
    cause = _innermost(error)
    said = " ".join(str(getattr(cause, "strerror", None) or cause).split())
    if proxy:
        return (
            f"{url} cannot be reached through the proxy {proxy} that the environment names "
            f"({said}): fix HTTP_PROXY or HTTPS_PROXY, or set NO_PROXY={place.hostname}"
        )
    if isinstance(cause, socket.gaierror):
        return f"{url} cannot be reached: the name {place.hostname} is not known (DNS: {said})"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"{url} has a certificate that is not trusted ({cause.verify_message}): "
            "SSL_CERT_FILE names the authorities to trust"
        )
    if isinstance(cause, ssl.SSLError):
        return f"{url} does not speak TLS ({cause.reason}): should it begin with http://?"
    if isinstance(cause, ConnectionRefusedError):
        return f"{url} cannot be reached: nothing listens there: {start}"
    if isinstance(cause, OSError):
        return f"{url} cannot be reached: {said}"
    return f"{url} answered with something other than HTTP ({said}): is it another service?"


def why_no_client(error: Exception, url: str) -> str:
    """One line about a client that cannot be built because the environment is wrong."""
    proxies = ", ".join(
        f"{name}={_without_login(os.environ[name])}"
        for name in sorted(os.environ)
        if name.upper() in _LOOKED_AT and os.environ[name]
    )
    said = " ".join(str(error).split())
    return f"{url} cannot be asked: {said} (the environment has {proxies or 'no proxy'})"


_LOOKED_AT = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _without_login(address: str) -> str:
    try:
        place: SplitResult = urlsplit(address)
    except ValueError:
        return "(an address that cannot be read)"
    return place._replace(netloc=place.netloc.rpartition("@")[2]).geturl()


def _innermost(error: BaseException) -> BaseException:
    *_, last = _chain(error)
    return last


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
