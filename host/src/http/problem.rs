//! The only file that knows status codes: every failure becomes an RFC 9457 problem with a stable code. What a client reads
//! is written here or by the module that refused; the cause of an internal failure goes to the log and never leaves.

use axum::response::Response;
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output;
use crate::auth::password::PasswordError;
use crate::auth::throttle::Throttled;
use crate::auth::token::TokenError;
use crate::id::CorrelationId;
use crate::rbac::permit::Denied;
use crate::rbac::refusal::Refusal;
use crate::state::committer::CommitError;
use crate::state::work::WorkError;
use crate::storage::StorageError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)+) => {
        /// The stable codes of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name),+
        }

        impl Code {
            /// Every code, for the OpenAPI document.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as clients see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The status that goes with it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                StatusCode::from_u16(match self { $(Self::$name => $status),+ })
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// A short summary that does not change from occurrence to occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }
        }
    };
}

codes! {
    /// A field, parameter or header is wrong.
    ValidationError = "VALIDATION_ERROR", 400, "The request is not valid";
    /// The correlation id is no UUID.
    InvalidCorrelationId = "INVALID_CORRELATION_ID", 400, "The correlation id is not a UUID";
    /// The body names another tenant than the token.
    TenantMismatch = "TENANT_MISMATCH", 400, "The body names another tenant";
    /// The route wants an idempotency key.
    IdempotencyKeyRequired = "IDEMPOTENCY_KEY_REQUIRED", 400, "An idempotency key is required";
    /// No valid token.
    Unauthenticated = "UNAUTHENTICATED", 401, "Sign in first";
    /// Wrong tenant, e-mail or password.
    InvalidCredentials = "INVALID_CREDENTIALS", 401, "The credentials are not valid";
    /// Permissions are missing.
    Forbidden = "FORBIDDEN", 403, "A permission is missing";
    /// The event type belongs to a cell.
    EventTypeReserved = "EVENT_TYPE_RESERVED", 403, "The event type belongs to a cell";
    /// Faults cannot be injected here.
    ChaosDisabled = "CHAOS_DISABLED", 403, "Chaos is not enabled";
    /// No such route or object.
    NotFound = "NOT_FOUND", 404, "There is no such thing";
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "The method is not allowed here";
    /// The kernel has its first tenant.
    AlreadyBootstrapped = "ALREADY_BOOTSTRAPPED", 409, "The kernel is already set up";
    /// Something of that name exists.
    AlreadyExists = "ALREADY_EXISTS", 409, "It already exists";
    /// It is still in use, or it is the last of its kind.
    InUse = "IN_USE", 409, "It is still needed";
    /// Two routes could match one request.
    RouteConflict = "ROUTE_CONFLICT", 409, "Two routes could match one request";
    /// The version exists with other bytes.
    VersionExists = "VERSION_EXISTS", 409, "The version exists with other content";
    /// No version served before.
    NoPreviousVersion = "NO_PREVIOUS_VERSION", 409, "There is no version to go back to";
    /// The call kept meeting changes of others.
    WriteConflict = "WRITE_CONFLICT", 409, "The call kept conflicting with others";
    /// The first request with this key is still running.
    IdempotencyKeyInUse = "IDEMPOTENCY_KEY_IN_USE", 409, "The first request with this key is still running";
    /// No checkpoint covers the entry yet.
    NotSealed = "AUDIT_NOT_SEALED", 409, "No checkpoint covers it yet";
    /// The body is too large.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, "The body is too large";
    /// The body has the wrong media type.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "The media type is not supported";
    /// The key belongs to another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", 422, "The key was used for another request";
    /// The component would not run.
    CellRejected = "CELL_REJECTED", 422, "The cell would not run";
    /// Too many attempts.
    RateLimited = "RATE_LIMITED", 429, "Too many requests";
    /// A fault of the kernel.
    InternalError = "INTERNAL_ERROR", 500, "The kernel failed";
    /// The cell answered with an invalid status or header.
    BadResponse = "BAD_RESPONSE", 502, "The cell's answer is not valid";
    /// The cell answered with more than it may.
    OutputExceeded = "OUTPUT_EXCEEDED", 502, "The cell's answer is too large";
    /// The cell trapped.
    CellTrapped = "CELL_TRAPPED", 503, "The cell trapped";
    /// The cell answered with a 5xx.
    CellFailed = "CELL_FAILED", 503, "The cell failed";
    /// The cell used up its fuel.
    FuelExhausted = "FUEL_EXHAUSTED", 503, "The cell used up its fuel";
    /// The cell wanted more memory than it may have.
    MemoryExceeded = "MEMORY_EXCEEDED", 503, "The cell exceeded its memory";
    /// The cell went over another limit.
    LimitExceeded = "LIMIT_EXCEEDED", 503, "The cell exceeded a limit";
    /// All slots of the cell are taken.
    CellOverloaded = "CELL_OVERLOADED", 503, "The cell is overloaded";
    /// The cell failed repeatedly; its breaker is open.
    CircuitOpen = "CIRCUIT_OPEN", 503, "The cell's breaker is open";
    /// The cell was taken out of service.
    CellQuarantined = "CELL_QUARANTINED", 503, "The cell is quarantined";
    /// The cell is not active.
    CellUnavailable = "CELL_UNAVAILABLE", 503, "The cell is not active";
    /// The database is away; nothing happened.
    StorageUnavailable = "STORAGE_UNAVAILABLE", 503, "The database is unavailable";
    /// It may have happened or not.
    CommitUnknown = "COMMIT_UNKNOWN", 503, "The outcome is unknown";
    /// The cell used up its time.
    CellTimeout = "CELL_TIMEOUT", 504, "The cell used up its time";
}

/// One wrong field of a request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body; `/query/NAME`, `/path/NAME` or `/header/NAME` elsewhere.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A problem as its reply shows it (RFC 9457, section 3).
#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "type")]
    about: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'static str,
    correlation_id: CorrelationId,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Problem {
    /// The stable code; it decides the status.
    pub code: Code,
    /// A sentence about this occurrence: what was wrong and what to do.
    pub detail: String,
    /// Further members.
    pub extra: Map<String, Value>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// `Allow`, for 405.
    pub allowed: Option<String>,
}

impl Problem {
    /// A problem with its sentence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), extra: Map::new(), retry_after_s: None, allowed: None }
    }

    /// The request is wrong at one place.
    #[must_use]
    pub fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = if pointer.is_empty() { message.clone() } else { format!("{pointer}: {message}") };
        let errors = vec![FieldError { pointer: pointer.to_owned(), message }];
        Self::new(Code::ValidationError, detail).with("errors", serde_json::to_value(errors).unwrap_or_default())
    }

    /// There is no such object, or it is another tenant's.
    #[must_use]
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("There is no {what} {id}."))
    }

    /// A fault of the kernel; the cause goes to the log.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(Code::InternalError, "The kernel failed; the log has the cause under this correlation id.")
    }

    /// A fault of the kernel with several causes.
    #[must_use]
    pub fn internal_all(causes: &[String]) -> Self {
        Self::internal(causes.join("; "))
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Asks the client to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Names the methods that are allowed (RFC 9110, section 15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.allowed = Some(methods);
        self
    }

    /// The reply.
    #[must_use]
    pub fn render(&self, path: &str, correlation: CorrelationId) -> Response {
        metrics::counter!("api_errors_total", "code" => self.code.as_str()).increment(1);
        let status = self.code.status();
        let body = Members {
            about: "about:blank",
            title: self.code.title(),
            status: status.as_u16(),
            detail: &self.detail,
            instance: path,
            code: self.code.as_str(),
            correlation_id: correlation,
            extra: &self.extra,
        };
        let mut response = output::json_as(status, "application/problem+json", &body);
        if let Some(methods) = self.allowed.as_ref().and_then(|methods| HeaderValue::from_str(methods).ok()) {
            response.headers_mut().insert(ALLOW, methods);
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(
                Code::Unauthenticated,
                "A valid access token is needed: send `Authorization: Bearer TOKEN` from POST /api/v1/auth/login.",
            ),
            Denied::Missing(permission) => {
                Self::new(Code::Forbidden, format!("This needs the permission {permission}; a role can grant it."))
                    .with("missing_permissions", vec![permission])
            }
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupt { .. } => Self::internal(&error),
            StorageError::Unavailable(_) | StorageError::CommitUnknown { .. } | StorageError::Refused(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "storage failed");
                Self::new(Code::StorageUnavailable, "The database cannot be reached. Nothing happened; try again.")
                    .retry_after(1)
            }
        }
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Storage(error) => error.into(),
            WorkError::LimitExceeded(limit) => {
                Self::new(Code::ValidationError, format!("The request is too large: it exceeds the limit of {limit}."))
            }
            WorkError::NotACounter(_) | WorkError::CorruptRecord(_) => Self::internal(&error),
        }
    }
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full => {
                Self::new(Code::StorageUnavailable, "Too many commits are waiting. Nothing happened; try again.")
                    .retry_after(1)
            }
            CommitError::Unavailable => {
                Self::new(Code::StorageUnavailable, "The database did not commit. Nothing happened; try again.")
                    .retry_after(1)
            }
            CommitError::Unknown => Self::new(
                Code::CommitUnknown,
                "The connection to the database broke during the commit. Ask again with the same Idempotency-Key.",
            )
            .retry_after(1),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Work(error) => error.into(),
            Refusal::NotFound { what, id } => Self::not_found(what, id),
            Refusal::Taken { what, name } => {
                Self::new(Code::AlreadyExists, format!("There is a {what} {name} already; choose another name."))
            }
            Refusal::LastOwner => Self::new(
                Code::InUse,
                "This is the tenant's last active owner; give another user the role owner first.",
            ),
            Refusal::BuiltIn => Self::new(
                Code::InUse,
                "The role owner is built in: it can be given and taken, but not changed or removed.",
            ),
            Refusal::RoleInUse => Self::new(Code::InUse, "Users still have this role; take it from them first."),
            Refusal::SystemTenant => {
                Self::new(Code::InUse, "The system tenant is the operator's own and cannot be suspended.")
            }
            Refusal::NotHeld(missing) => Self::new(
                Code::Forbidden,
                format!("Nobody can grant what they do not hold; you lack {}.", missing.join(", ")),
            )
            .with("missing_permissions", missing),
            Refusal::TooMany { what, most } => {
                Self::new(Code::ValidationError, format!("There can be at most {most} {what}."))
            }
        }
    }
}

impl From<Throttled> for Problem {
    fn from(throttled: Throttled) -> Self {
        metrics::counter!("rate_limited_total").increment(1);
        Self::new(
            Code::RateLimited,
            format!("Too many failed attempts. Wait {} s; each further failure doubles it.", throttled.retry_after_s),
        )
        .retry_after(throttled.retry_after_s)
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => {
                metrics::counter!("rate_limited_total").increment(1);
                Self::new(Code::RateLimited, "Too many passwords are being checked; try again.").retry_after(1)
            }
            PasswordError::Hash(_) => Self::internal(error),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::internal(error)
    }
}
