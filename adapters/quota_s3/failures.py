"""What a server refused, said so that an operator knows what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from quota.errors import DeletionForbidden, StoreError, shown

_ADVICE = {
    "NoSuchBucket": "there is no such bucket (any more); check its name and the endpoint, or remove the store",
    "InvalidAccessKeyId": "check the credentials that boto3 finds",
    "SignatureDoesNotMatch": "check the credentials that boto3 finds, and QUOTA_S3_REGION",
    "ExpiredToken": "renew the credentials, then try again",
    "RequestTimeTooSkewed": "set this machine's clock right, then try again",
    "PermanentRedirect": "the bucket is in another region; set QUOTA_S3_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set QUOTA_S3_REGION to it",
    "IllegalLocationConstraintException": "the bucket is in another region; set QUOTA_S3_REGION to it",
    "SlowDown": "the server is overloaded; the next sweep tries again",
    "ServiceUnavailable": "the server is overloaded; the next sweep tries again",
    "InternalError": "the server failed; the next sweep tries again",
    "KeyTooLongError": "the trash needs some 50 characters more than the key has; shorten it, or turn on versioning",
    "InvalidObjectState": "it is archived; bring it back from the archive first",
    "MethodNotAllowed": "the server forbids this here; look at its policy and at object lock",
    "InvalidRequest": "look whether it is under object lock or legal hold, and what the server supports",
}
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden", "403"})
_LOCK_WORDS = ("object lock", "objectlock", "legal hold", "legalhold", "retention", "worm")
_LOCK_ADVICE = "it is under object lock or legal hold; lift that, or wait for its end"
_MFA_ADVICE = "the bucket has MFA delete, which no program can satisfy; turn it off for this bucket"
# Names of users and keys, which may hold any word.
_NAMES = re.compile(r"\S*(?:arn:|/)\S*")


class AccessRefused(StoreError):
    """These credentials may not do this."""


def code_of(error: ClientError) -> str:
    """Return the server's own code of an error; the HTTP status where it gave none, as after HEAD."""
    return error.response.get("Error", {}).get("Code", "") or "unknown"


def refused(bucket: str, key: str, task: str, code: str, message: str) -> StoreError:
    """Return the error that says that the server refused `task` at `key`, why, and what to do."""
    advice = _what_forbids(f"{code} {message.replace(key, '')}")
    if advice is not None:
        kind: type[StoreError] = DeletionForbidden
    else:
        kind = AccessRefused if code in _DENIED else StoreError
        advice = _cure(code)
    return kind(f"{_where(bucket, key)}: cannot {task}: {code} ({message.strip() or 'no reason given'}); {advice}")


def _what_forbids(message: str) -> str | None:
    """Say what to do where a message tells that nobody may delete this; most servers have no code for it."""
    said = _NAMES.sub(" ", message.lower())
    if any(word in said for word in _LOCK_WORDS):
        return _LOCK_ADVICE
    if "mfa" in said.split() or "multi-factor" in said or "multifactor" in said:
        return _MFA_ADVICE
    return None


def _cure(code: str) -> str:
    if code in _DENIED:
        return (
            "check that the bucket is still there, and that these credentials have the right to it; that it belongs to "
            "the account of QUOTA_S3_EXPECTED_BUCKET_OWNER, if that is set; and look for object lock, legal hold and "
            "MFA delete"
        )
    return _ADVICE.get(code, "mend the cause, then try again")


def not_s3s(bucket: str, key: str, problem: Exception) -> StoreError:
    """Return the error that says that what was answered, by a proxy perhaps, is not what S3 answers."""
    return StoreError(f"{_where(bucket, key)}: the server's answer is not S3's: {problem}; it cannot be used")


def _where(bucket: str, key: str) -> str:
    return f"bucket {bucket}" if not key else f"bucket {bucket}, key {shown(key)}"


@contextmanager
def failures_named(bucket: str, key: str, task: str) -> Iterator[None]:
    """Turn what botocore raises in the block into a `StoreError` that names bucket, key, cause and cure.

    Raises:
        StoreError: the block raised an error of botocore's.
    """
    try:
        yield
    except ClientError as error:
        # An empty element is read as None.
        message = error.response.get("Error", {}).get("Message") or ""
        raise refused(bucket, key, task, code_of(error), message) from error
    except BotoCoreError as error:
        raise StoreError(f"{_where(bucket, key)}: cannot {task}: {error}; {_cure_here(error)}") from error
    except (ResponseParserError, ValueError) as error:
        # So botocore says that it cannot read an answer: a time or a number that is none, say.
        raise not_s3s(bucket, key, error) from error


def _cure_here(error: Exception) -> str:
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return "give boto3 credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
    if isinstance(error, ReadTimeoutError):
        return "check the endpoint and the network, or let it take longer by QUOTA_S3_READ_TIMEOUT"
    if isinstance(error, (EndpointConnectionError, HTTPClientError)):
        return "check the endpoint and the network; the next sweep tries again"
    if isinstance(error, ParamValidationError):
        return "check the bucket's name and the key"
    return "mend the cause, then try again"
