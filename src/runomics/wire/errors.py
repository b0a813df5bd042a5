"""Every error a client can be answered with, one class per name. Raised by operations and by the wire; the edge turns them into HTTP.

The HTTP status of a modelled error stands in the service model alone (`ServiceModel.error_statuses`); only the errors that AWS's front
end makes, which no model lists, carry their status here.
"""

from __future__ import annotations

from typing import ClassVar


class ApiError(Exception):
    """An answer that is not a success. `code` is what SDKs raise it as, `message` what their users read."""

    code: ClassVar[str]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# ---- modelled errors ---------------------------------------------------------------------------------------------


class ValidationException(ApiError):
    """The input breaks a constraint. Source: model."""

    code = "ValidationException"


class ServiceQuotaExceededException(ApiError):
    """The request exceeds a quota of the account. Source: model."""

    code = "ServiceQuotaExceededException"


class AccessDeniedException(ApiError):
    """The caller may not do this. Source: model."""

    code = "AccessDeniedException"


class ResourceNotFoundException(ApiError):
    """The account has no such resource. Source: model."""

    code = "ResourceNotFoundException"


class NotSupportedOperationException(ApiError):
    """The operation exists in the API and not on this server. Source: model."""

    code = "NotSupportedOperationException"


class RequestTimeoutException(ApiError):
    """The request took too long. Source: model."""

    code = "RequestTimeoutException"


class ConflictException(ApiError):
    """The resource is in a state that forbids this. Source: model."""

    code = "ConflictException"


class ThrottlingException(ApiError):
    """Too many requests; SDKs wait and try again. Source: model."""

    code = "ThrottlingException"


class InternalServerException(ApiError):
    """The server's fault; SDKs try again. Source: model."""

    code = "InternalServerException"


# ---- the front end's errors --------------------------------------------------------------------------------------


class FrontEndError(ApiError):
    """An error made before any operation is reached. `status` is its HTTP status."""

    status: ClassVar[int]


class SerializationException(FrontEndError):
    """The body is not JSON, or a value has the wrong JSON type: refused before any constraint is looked at.

    Source: observed, AWS's rest-json front ends; not in the model.
    """

    code = "SerializationException"
    status = 400


class UnknownOperationException(FrontEndError):
    """No operation has this method and path. Source: observed, AWS's front ends."""

    code = "UnknownOperationException"
    status = 404

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"No operation answers {method} {path}")


class RequestTooLargeException(FrontEndError):
    """The body is larger than the server reads. Source: assumed (AWS's front ends answer 413 without a documented form)."""

    code = "RequestTooLargeException"
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Request size exceeded {limit_bytes} bytes")


class MissingAuthenticationTokenException(FrontEndError):
    """The request is not signed. Source: observed."""

    code = "MissingAuthenticationTokenException"
    status = 403

    def __init__(self) -> None:
        super().__init__("Missing Authentication Token")


class IncompleteSignatureException(FrontEndError):
    """The Authorization header cannot be read as a version 4 signature. Source: observed."""

    code = "IncompleteSignatureException"
    status = 403


class UnrecognizedClientException(FrontEndError):
    """No such access key. Source: observed."""

    code = "UnrecognizedClientException"
    status = 403

    def __init__(self) -> None:
        super().__init__("The security token included in the request is invalid.")


class InvalidSignatureException(FrontEndError):
    """The signature is well-formed and wrong, too old, or for another scope. Source: observed."""

    code = "InvalidSignatureException"
    status = 403
