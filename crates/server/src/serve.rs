//! One request, on the network's side: it is routed, its body is read, it is admitted, and its answer is awaited.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use remuda_host::{Answer, Call, CallError, FunctionSpec, Host, Inline, InlineThread, Rejected, Ticket};
use remuda_manifest::Abi;
use remuda_model::{GuestContext, HttpBody, RequestId, Responder, Sink, Stdin, StreamedResponse};
use tokio::sync::{Semaphore, oneshot};

use crate::body::Hold;
use crate::cgi;
use crate::entrance::{Client, Ends};
use crate::respond::{Refusal, Reply, note_end, respond, respond_streaming};
use crate::route::{Mounted, Routed, Routes};
use crate::wasi_http::Rest;
use crate::{rules, wasi_http};

/// The most bytes of a guest's standard error that are kept for the log, and of its standard output if that is not its answer.
const STDERR_BYTES_MAX: u64 = 64 << 10;

/// The time after a deadline for which the server waits for the host's own answer before it gives one itself.
const GRACE: Duration = Duration::from_millis(250);

/// Everything that all connections share.
pub(crate) struct State {
    pub(crate) host: Host,
    pub(crate) routes: Routes,
    /// A permit for each request whose body may be in memory at the same time.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) client_timeout: Duration,
}

impl State {
    /// Answers a request. `inline` is for requests that this thread may run itself.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        ends: &Ends,
        inline: Option<&InlineThread>,
    ) -> Reply {
        let id = self.host.next_request_id();
        let (mut head, body) = request.into_parts();
        if ends.client == Client::Nobody {
            return Refusal::NoRoute.reply(id);
        }
        let answer = match rules::apply(&mut head) {
            Ok(()) => self.answer(id, &head, body, ends, inline).await,
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::info!(request = %id, client = %ends.client, method = %head.method, path = head.uri.path(), ?refusal, "refused");
                refusal.reply(id)
            }
        }
    }

    async fn answer(
        &self,
        id: RequestId,
        head: &request::Parts,
        body: Incoming,
        ends: &Ends,
        inline: Option<&InlineThread>,
    ) -> Result<Reply, Refusal> {
        let routed = self.routes.find(head.uri.path()).ok_or(Refusal::NoRoute)?;
        let mounted = routed.mounted;
        let permit = Arc::clone(&self.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::Rejected(Rejected::QueueFull))?;
        let (bytes_max, timeout) = (mounted.endpoint.body_bytes_max, self.client_timeout);
        let (body, mut rest, responder, streamed) = if mounted.streams() {
            let (body, rest) = wasi_http::body(body, bytes_max, timeout).await?;
            let (responder, streamed) = Responder::new();
            (body, rest, Some(responder), Some(streamed))
        } else {
            (HttpBody::Whole(read_body(body, bytes_max, timeout).await?, None), Rest::default(), None, None)
        };
        let call = call(id, head, &routed, body, responder, ends);
        let brought = Instant::now();
        let run = match inline.filter(|_| mounted.may_run_inline()) {
            Some(inline) => inline.run(&mounted.function, call, brought),
            None => Inline::Declined(call),
        };
        let call = match run {
            Inline::Answered(result) => return Ok(respond(mounted, id, head, result)),
            Inline::Declined(call) => call,
        };
        match self.submit(mounted, call, brought, streamed, &mut rest).await? {
            Submitted::Answered(result) => {
                let reply = respond(mounted, id, head, result);
                match rest.fault() {
                    // That is why the guest has failed.
                    Some(refusal) if reply.status().is_server_error() => Err(refusal),
                    _ => Ok(reply),
                }
            }
            Submitted::Streams(response, ticket) => {
                let hold = Hold { ticket: Some(ticket), _permit: permit, rest };
                Ok(respond_streaming(mounted, id, head, response, hold).await)
            }
        }
    }

    /// Has a thread of the host run a call, and waits for the answer, or for its beginning.
    async fn submit(
        &self,
        mounted: &Mounted,
        call: Call,
        brought: Instant,
        streamed: Option<oneshot::Receiver<StreamedResponse>>,
        rest: &mut Rest,
    ) -> Result<Submitted, Refusal> {
        let patience = call.limits.timeout.saturating_add(GRACE);
        let (done, answered) = oneshot::channel();
        let (id, function, abi) = (call.id, Arc::clone(&mounted.function), mounted.abi);
        // If the client leaves, hyper drops this future, and with it the ticket, which cancels the request.
        let ticket = self
            .host
            .submit(&mounted.function, call, brought, move |result| {
                // Nobody waits for it any more: the response has begun before, or the client has left.
                if let Err(result) = done.send(result) {
                    note_end(&function, abi, id, &result);
                }
            })
            .map_err(Refusal::Rejected)?;
        let begun = async { streamed?.await.ok() };
        let first = async {
            tokio::select! {
                biased;
                Some(response) = begun => Ok(Submitted::Streams(response, ticket)),
                result = answered => result.map(Submitted::Answered).map_err(|_| Refusal::Lost),
                // The client has left, and the ticket goes with this.
                () = poll_fn(|cx| rest.poll_broken(cx)) => Err(Refusal::BodyBroken),
            }
        };
        tokio::time::timeout(patience, first).await.map_err(|_| Refusal::TooLate)?
    }
}

/// The call that a request is to its guest.
fn call(
    id: RequestId,
    head: &request::Parts,
    routed: &Routed<'_>,
    body: HttpBody,
    responder: Option<Responder>,
    ends: &Ends,
) -> Call {
    let Mounted { function, abi, .. } = routed.mounted;
    let spec = function.spec();
    let log = Sink::CaptureHead { bytes_max: STDERR_BYTES_MAX };
    let mut context = GuestContext {
        args: program_and_args(spec),
        env: spec.env.clone(),
        stdin: Stdin::Empty,
        stdout: Sink::Capture { bytes_max: spec.limits.output_bytes_max },
        stderr: log,
        preopens: spec.preopens.clone(),
        outbound: spec.outbound.clone(),
        request: None,
        responder,
        gate: None,
    };
    match abi {
        Abi::Stdio => context.stdin = stdin(body),
        Abi::Cgi => {
            let variables = cgi::variables(head, routed, body.len(), ends);
            // A request sets no variable that the operator has set.
            let is_set = |name: &String| spec.env.iter().any(|(set, _)| set == name);
            context.env.extend(variables.into_iter().filter(|(name, _)| !is_set(name)));
            context.stdin = stdin(body);
        }
        Abi::Http => {
            context.stdout = log;
            context.request = Some(Arc::new(wasi_http::request(head, body, &ends.entrance)));
        }
    }
    Call { id, entry: abi.entry(), context, limits: spec.limits }
}

/// A body as standard input.
fn stdin(body: HttpBody) -> Stdin {
    match body {
        HttpBody::Whole(body, _) if !body.is_empty() => Stdin::Bytes(body),
        HttpBody::Whole(..) => Stdin::Empty,
        HttpBody::Coming { pieces, len } => Stdin::Coming { pieces, len },
    }
}

/// What came first of a request: its whole answer, or the beginning of its response.
enum Submitted {
    Answered(Result<Answer, CallError>),
    Streams(StreamedResponse, Ticket),
}

/// A program's arguments, which begin with its name.
fn program_and_args(spec: &FunctionSpec) -> Vec<String> {
    std::iter::once(&spec.name).chain(&spec.args).cloned().collect()
}

/// Reads a request's whole body. Trailer fields are dropped.
async fn read_body(body: Incoming, bytes_max: u64, timeout: Duration) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_large = Refusal::BodyTooLarge { bytes_max };
    if body.size_hint().lower() > bytes_max {
        return Err(too_large);
    }
    let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let collected = tokio::time::timeout(timeout, Limited::new(body, limit).collect())
        .await
        .map_err(|_| Refusal::BodyTooSlow)?
        .map_err(|error| if error.is::<LengthLimitError>() { too_large } else { Refusal::BodyBroken })?;
    Ok(collected.to_bytes())
}
