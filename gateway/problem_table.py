"""The table of problems: for each code its HTTP status, ISO 20022 reason, sentence, cause and cure.

``ROWS`` are requests that were not carried out, ``REFUSALS`` payments and postings that were journaled and refused, and
``BY_CLASS`` answers for every expected error whose code is in neither. ``problems.py`` is the machinery.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import (
    Conflict,
    Forbidden,
    LedgerError,
    MalformedInput,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from ledger.transfers import Result

__all__ = ["BY_CLASS", "REFUSALS", "ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One problem. ``iso`` is an ExternalStatusReason1Code or empty; the three texts are whole sentences."""

    code: str
    status: int
    iso: str
    sentence: str
    cause: str
    cure: str


BY_CLASS: dict[type[LedgerError], Row] = {
    MalformedInput: Row(
        "MALFORMED",
        400,
        "FF01",
        "The request is not of the form.",
        "A field is missing, unknown, of the wrong type or out of its bounds.",
        "Send what the API's description of this request asks for.",
    ),
    Unauthenticated: Row(
        "UNAUTHENTICATED",
        401,
        "DS0E",
        "The signature does not hold.",
        "The message is not signed, or not by a known and unrevoked key.",
        "Sign the request again with a registered key.",
    ),
    Forbidden: Row(
        "FORBIDDEN",
        403,
        "DS0G",
        "The key may not do this.",
        "The signing party has no right to what it asked for.",
        "Ask with the key of the party whose right it is.",
    ),
    NotFound: Row(
        "NOT_FOUND",
        404,
        "",
        "There is no such thing here.",
        "The request names something that this ledger does not have.",
        "Check the name, and that it belongs to this ledger.",
    ),
    Conflict: Row(
        "CONFLICT",
        409,
        "",
        "The request contradicts what is already journaled.",
        "Something with this name exists with other content.",
        "Read what is there, and use another name for something new.",
    ),
    Rejected: Row(
        "REJECTED",
        422,
        "AG01",
        "The request was understood and refused.",
        "A rule of the business forbids it.",
        "Change what the rule is about; sending the same again will not help.",
    ),
    Unavailable: Row(
        "UNAVAILABLE",
        503,
        "AB07",
        "The server cannot answer now.",
        "It is starting, stopping or overloaded.",
        "Send the same request with the same idempotency key again after the time in Retry-After.",
    ),
}

_SAME_AGAIN = "Send the same request with the same idempotency key again after the time in Retry-After."
_SEE_API = "Send what the API's description of this request asks for."

ROWS: tuple[Row, ...] = (
    Row(
        "BODY_TIMEOUT",
        408,
        "",
        "The body did not arrive in time.",
        "The sender stopped, or the connection is too slow for the body.",
        "Send it again over a better connection, or in smaller pieces.",
    ),
    Row(
        "BODY_TOO_LARGE",
        413,
        "",
        "The body is larger than this server takes.",
        "The limit for this kind of request, as read from the settings, is passed.",
        "Split the content over several requests.",
    ),
    Row(
        "BODY_TRUNCATED",
        400,
        "",
        "The body is shorter than announced.",
        "The connection ended early, or Content-Length is wrong.",
        "Send the whole body with its true length.",
    ),
    Row(
        "HEADERS_TOO_LARGE",
        431,
        "",
        "The request's headers are larger than this server takes.",
        "Something on the way adds headers, or one of them has no bound.",
        "Send only the headers that the API asks for.",
    ),
    Row(
        "INTEGRITY_FAILURE",
        500,
        "",
        "The node found stored data that contradict themselves and stopped writing.",
        "A hash, a signature, a proof or a balance of the journal does not hold.",
        "Tell the node's operator; nothing is acknowledged until the journal is whole again.",
    ),
    Row(
        "INTERNAL_ERROR",
        500,
        "",
        "Something went wrong inside the server.",
        "A mistake in the program; whether the request was carried out is not known.",
        "Send the same request with the same idempotency key again; report the request id if it stays so.",
    ),
    Row(
        "MEDIA_TYPE_UNSUPPORTED",
        415,
        "",
        "The body's media type is not taken here.",
        "Content-Type is missing or names another type.",
        "Send Content-Type: application/json, and sign it.",
    ),
    Row(
        "METHOD_NOT_ALLOWED",
        405,
        "",
        "This address does not take this method.",
        "The address exists, but for another method.",
        "Use one of the methods named in Allow.",
    ),
    Row(
        "NODE_STOPPED",
        503,
        "AB07",
        "The node has stopped writing.",
        "It is shutting down, or a failure stopped it for safety.",
        _SAME_AGAIN,
    ),
    Row(
        "OVERLOADED",
        503,
        "AB07",
        "More requests are under way than this server takes.",
        "The bounded queue is full; nothing of this request was used.",
        _SAME_AGAIN,
    ),
    Row(
        "PARAMETER_INVALID",
        400,
        "",
        "A parameter is unknown or not of its form.",
        "The path or the query has a part that this address does not take.",
        _SEE_API,
    ),
    Row(
        "ROUTE_NOT_FOUND",
        404,
        "",
        "There is nothing at this address.",
        "The path is misspelt, or belongs to another process of the network.",
        "See /docs for the addresses of this server.",
    ),
)

REFUSALS: dict[Result, Row] = {
    result: Row(result.name, 422, iso, sentence, cause, cure)
    for result, iso, sentence, cause, cure in (
        (
            Result.LINKED_FAILED,
            "AG03",
            "Another part of the same whole was refused.",
            "The parts are all-or-nothing.",
            "Look at the other part's reason.",
        ),
        (
            Result.CHAIN_OPEN,
            "AG03",
            "The chain of linked parts was not ended.",
            "The last part still asked to be linked to a next one.",
            "End the chain.",
        ),
        (
            Result.ID_EXISTS,
            "DU03",
            "This party has used the identifier before.",
            "A payment or part of the same name was journaled earlier, whether it succeeded or not.",
            "Read the first one; use a new UETR for a new payment.",
        ),
        (
            Result.FLAGS_INVALID,
            "FF01",
            "The posting combines kinds that exclude each other.",
            "More than one of post, void and pending was asked for.",
            "Ask for one of them.",
        ),
        (
            Result.AMOUNT_INVALID,
            "AM12",
            "The amount is not positive.",
            "The amount is zero or below.",
            "Send an amount of at least one minor unit.",
        ),
        (
            Result.SAME_ACCOUNT,
            "AC03",
            "Both sides are the same account.",
            "The payer's and the payee's account are one.",
            "Name another account.",
        ),
        (
            Result.DEBIT_NOT_FOUND,
            "AC02",
            "The account to be debited does not exist.",
            "No account has this number here.",
            "Check the address.",
        ),
        (
            Result.CREDIT_NOT_FOUND,
            "AC03",
            "The account to be credited does not exist.",
            "No account has this number here.",
            "Check the address.",
        ),
        (
            Result.ASSET_MISMATCH,
            "AM11",
            "The two accounts hold different assets.",
            "A transfer moves one asset.",
            "Pay in the asset that both hold, or convert through a quote.",
        ),
        (
            Result.DEBIT_CLOSED,
            "AC05",
            "The account to be debited is closed.",
            "It was closed by its participant.",
            "Use an open account.",
        ),
        (
            Result.CREDIT_CLOSED,
            "AC07",
            "The account to be credited is closed.",
            "It was closed by its participant.",
            "Use an open account.",
        ),
        (
            Result.HOLD_NOT_FOUND,
            "AG03",
            "There is no such hold.",
            "Nothing was reserved under this name.",
            "Check the name.",
        ),
        (
            Result.HOLD_POSTED,
            "AG03",
            "The hold was posted already.",
            "A hold ends once.",
            "Pay back with a new payment if that is what you want.",
        ),
        (
            Result.HOLD_VOIDED,
            "AG03",
            "The hold was voided already.",
            "A hold ends once.",
            "Nothing is left to do.",
        ),
        (
            Result.HOLD_EXPIRED,
            "AB03",
            "The hold has expired.",
            "Its time was up before it was ended otherwise.",
            "Pay again under a new UETR.",
        ),
        (
            Result.HOLD_BOUND,
            "TM01",
            "The payment belongs to a window that is being settled.",
            "After the cut-off a payment waits for the window's decision.",
            "Wait for the decision; a payment that is carried out can be cancelled then.",
        ),
        (
            Result.HOLD_EXCEEDED,
            "AM02",
            "More was asked for than the hold reserved.",
            "A partial posting is at most the hold's amount.",
            "Ask for at most what was reserved.",
        ),
        (
            Result.OVERFLOW,
            "AM13",
            "A total would pass the largest amount this ledger can count.",
            "The account's counters end below 2^63 minor units.",
            "Split the flows over several accounts.",
        ),
        (
            Result.DEBIT_LIMIT,
            "AM04",
            "The available balance is not enough.",
            "The balance minus what is reserved would fall below the account's minimum.",
            "Fund the account, wait for a credit, or pay less.",
        ),
        (
            Result.CREDIT_LIMIT,
            "AM04",
            "The available balance on the credit side is not enough.",
            "An account of the paying institution, reduced by credits, would fall below its minimum.",
            "The institution must be funded first.",
        ),
        (
            Result.QUOTE_NOT_FOUND,
            "AG03",
            "There is no such quote here.",
            "The quote was never published on this ledger.",
            "Ask the provider for a quote on this ledger.",
        ),
        (
            Result.QUOTE_EXPIRED,
            "AB03",
            "The quote has expired.",
            "The payment came after the instant until which the provider is bound.",
            "Get a fresh quote.",
        ),
        (
            Result.QUOTE_MISMATCH,
            "AM11",
            "The quote is for other assets.",
            "The pair of the quote and the pair of the payment differ.",
            "Use a quote for this pair.",
        ),
        (
            Result.PAYEE_NOT_FOUND,
            "AC03",
            "The payee's account does not exist.",
            "No customer account has this address there.",
            "Check the address with the payee.",
        ),
        (
            Result.PAYEE_ASSET,
            "AC11",
            "The payee's account holds another asset.",
            "The account cannot be credited in the asset of the payment.",
            "Pay in the payee's asset, or convert through a quote.",
        ),
        (
            Result.PAYEE_CLOSED,
            "AC07",
            "The payee's account is closed.",
            "Its participant closed it.",
            "Ask the payee for an open account.",
        ),
        (
            Result.REFUND_NOT_FOUND,
            "AG09",
            "There is no settled payment to refund.",
            "The refund names a payment that this payer did not receive.",
            "Name the UETR of a payment that was settled to this account.",
        ),
        (
            Result.REFUND_EXCEEDED,
            "AM02",
            "The refunds would exceed what was received.",
            "All refunds of a payment together are at most what its payee received.",
            "Refund at most the rest.",
        ),
        (
            Result.CONVERTED_TO_ZERO,
            "AM01",
            "The amount is too small to convert.",
            "At the quote's rate it gives less than one minor unit.",
            "Pay more.",
        ),
        (
            Result.DEBTOR_ASSET,
            "AC10",
            "The payer's account holds another asset.",
            "The asset named in the amount is not that of the account to be debited.",
            "Name the account's own asset.",
        ),
    )
}
