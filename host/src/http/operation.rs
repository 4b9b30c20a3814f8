//! The wrapper that every operation of the control plane passes: authenticate → permit → run → commit with its audit entry
//! → reply. A handler cannot forget any of it, because it is reached only through here.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Response;
use http::Method;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::input::{Input, InputDocument, Raw};
use super::output::Output;
use super::problem::{Code, Problem};
use crate::audit::{self, Outcome, Party};
use crate::context::Context;
use crate::id::TenantId;
use crate::kernel::Kernel;
use crate::limit;
use crate::rbac::permit::{Access, Proof, Rule};
use crate::state::unit::{Receipt, Verdict};
use crate::state::work::Work;

/// What a handler works with: the request's circumstances, its unit of work, and the kernel.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Every part of the kernel.
    pub kernel: Arc<Kernel>,
    /// Who, when, which request.
    pub context: Context,
    /// Reads and staged changes; committed by the wrapper.
    pub work: Arc<Work>,
    draft: Arc<Mutex<Draft>>,
}

/// What the audit entry of this operation will say.
#[derive(Debug, Default)]
struct Draft {
    target: Option<Party>,
    details: Map<String, Value>,
    acting: Option<(TenantId, Party)>,
    nothing_changed: bool,
}

impl Operation {
    /// Names the object in the audit entry.
    pub fn target(&self, kind: &str, id: impl Display) {
        self.draft().target = Some(Party::new(kind, id));
    }

    /// Adds a detail to the audit entry; never a secret.
    pub fn detail(&self, name: &str, value: impl Into<Value>) {
        self.draft().details.insert(name.to_owned(), value.into());
    }

    /// Names who acts and in whose log the audit entry belongs, where the request itself proves it: a sign-in.
    pub fn acts_as(&self, tenant: TenantId, actor: Party) {
        self.draft().acting = Some((tenant, actor));
    }

    /// Says that the request found everything done already: there is nothing to audit.
    pub fn changes_nothing(&self) {
        self.draft().nothing_changed = true;
    }

    /// Takes [`Operation::changes_nothing`] back: a later step of the same request did change something.
    pub fn changes_something(&self) {
        self.draft().nothing_changed = false;
    }

    fn draft(&self) -> MutexGuard<'_, Draft> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Running = Pin<Box<dyn Future<Output = Result<Finished, Problem>> + Send>>;
type Handler = Arc<dyn Fn(Operation, Option<Arc<Access>>, Arc<Raw>) -> Running + Send + Sync>;
type Finished = Box<dyn FnOnce(&Receipt) -> Response + Send>;

/// Whether a successful operation leaves an audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audited {
    /// As every mutation does.
    Yes,
    /// A reading of the audit log: as [`audit::READ`], whatever the operation's name. Storms of it are counted.
    Read,
    /// A read, or a question that changes nothing.
    No,
}

impl Audited {
    /// The action in the entry of an operation of this name; none when it leaves no entry.
    #[must_use]
    pub fn action(self, name: &str) -> Option<&str> {
        match self {
            Self::Yes => Some(name),
            Self::Read => Some(audit::READ),
            Self::No => None,
        }
    }
}

/// One line of the URL table.
#[derive(Clone)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Its name in the OpenAPI document and its action in the audit log.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Who may call it.
    pub rule: Rule,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Whether it is audited.
    pub audited: Audited,
    /// Status of success.
    pub status: http::StatusCode,
    /// Another status of success and when it is given.
    pub other_status: Option<(http::StatusCode, &'static str)>,
    /// Parameters and body.
    pub input: fn(&mut SchemaGenerator, &mut InputDocument),
    /// Media type and schema of the reply.
    pub output: fn(&mut SchemaGenerator) -> Option<(&'static str, Schema)>,
    handler: Handler,
}

impl Route {
    /// A line of the table. The access rule, the input and the reply are those of the handler's signature.
    pub fn new<P, I, O, F, R>(
        method: Method,
        path: &'static str,
        name: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        P: Proof,
        I: Input,
        O: Output,
        F: Fn(Operation, P, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Problem>> + Send + 'static,
    {
        let audited = if method == Method::GET { Audited::No } else { Audited::Yes };
        let handler: Handler = Arc::new(move |operation, access, raw| {
            let permitted = P::prove(&operation.context.actor, access.as_ref());
            let parsed = permitted.map_err(Problem::from).and_then(|proof| Ok((proof, I::parse(&raw)?)));
            match parsed {
                Ok((proof, input)) => {
                    let running = handler(operation, proof, input);
                    Box::pin(async move {
                        let output = running.await?;
                        Ok(Box::new(move |receipt: &Receipt| output.respond(receipt)) as Finished)
                    })
                }
                Err(problem) => Box::pin(async move { Err(problem) }),
            }
        });
        Self {
            method,
            path,
            name,
            summary,
            rule: P::RULE,
            body_bytes_max: I::BODY_BYTES_MAX,
            audited,
            status: O::STATUS,
            other_status: O::OTHER,
            input: I::describe,
            output: O::describe,
            handler,
        }
    }

    /// Leaves the operation out of the audit log: it changes nothing, whatever its method.
    #[must_use]
    pub fn unaudited(mut self) -> Self {
        self.audited = Audited::No;
        self
    }

    /// Audits the operation as a reading of the audit log.
    #[must_use]
    pub fn reads_audit(mut self) -> Self {
        self.audited = Audited::Read;
        self
    }

    /// Runs the operation for an authenticated request.
    pub async fn run(
        &self,
        kernel: &Arc<Kernel>,
        context: &Context,
        access: Option<Arc<Access>>,
        raw: Arc<Raw>,
    ) -> Result<Response, Problem> {
        repeated(kernel, context, self.name, self.audited, |operation| {
            (self.handler)(operation, access.clone(), Arc::clone(&raw))
        })
        .await
        .map(|(finished, receipt)| finished(&receipt))
    }
}

/// Runs work that the operator began on this machine, with the same commit and audit as a request.
pub async fn locally<T, F, R>(kernel: &Arc<Kernel>, name: &'static str, run: F) -> Result<T, Problem>
where
    F: Fn(Operation) -> R,
    R: Future<Output = Result<T, Problem>>,
{
    let context = Context::operator(&kernel.clock);
    repeated(kernel, &context, name, Audited::Yes, run).await.map(|(value, _)| value)
}

/// Runs and commits an operation, again on fresh reads while what it read keeps changing.
async fn repeated<T, F, R>(
    kernel: &Arc<Kernel>,
    context: &Context,
    name: &'static str,
    audited: Audited,
    run: F,
) -> Result<(T, Receipt), Problem>
where
    F: Fn(Operation) -> R,
    R: Future<Output = Result<T, Problem>>,
{
    let mut refused = None;
    for _ in 0..limit::CONFLICT_ATTEMPTS_MAX {
        let operation = Operation {
            kernel: Arc::clone(kernel),
            context: context.clone(),
            work: Arc::new(Work::new(kernel.storage.clone())),
            draft: Arc::default(),
        };
        let value = match run(operation.clone()).await {
            Ok(value) => value,
            // A refusal rests on what was read, too.
            Err(problem) => match operation.work.still_valid().await {
                Ok(false) => {
                    refused = Some(problem);
                    continue;
                }
                Ok(true) | Err(_) => return Err(problem),
            },
        };
        if let Some(receipt) = commit(name, audited, &operation).await? {
            return Ok((value, receipt));
        }
    }
    Err(refused.unwrap_or_else(|| {
        Problem::new(Code::WriteConflict, "Others kept changing the same objects. Nothing happened; try again.")
    }))
}

/// Commits an operation with its audit entry; none when it must be run again.
async fn commit(name: &str, audited: Audited, operation: &Operation) -> Result<Option<Receipt>, Problem> {
    let work = &operation.work;
    let draft = std::mem::take(&mut *operation.draft());
    if let Some(action) = audited.action(name).filter(|_| !draft.nothing_changed) {
        let target = draft.target.unwrap_or_else(|| match audited {
            Audited::Read => Party::new("operation", name),
            Audited::Yes | Audited::No => Party::new("kernel", "kernel"),
        });
        let mut entry = operation.context.entry(action, target, Outcome::Success);
        entry.details = draft.details;
        if let Some((tenant, actor)) = draft.acting {
            entry.tenant_id = tenant;
            entry.actor = actor;
        }
        work.note(entry);
    } else if work.stages_nothing() {
        return Ok(work.still_valid().await?.then(Receipt::default));
    }
    match operation.kernel.commit(work.finish()).await? {
        Verdict::Committed(receipt) => Ok(Some(receipt)),
        Verdict::Conflicted(_) => Ok(None),
    }
}
