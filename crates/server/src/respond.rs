//! Turns an answer, or the lack of one, into a response: the client gets a short reason, and the log gets the whole
//! story.

use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};
use remuda_host::{Answer, CallError, Function, Rejected};
use remuda_manifest::Abi;
use remuda_model::{Cause, HttpAnswer, Limit, Outcome, Piece, RequestId, StreamedResponse};
use tokio::sync::mpsc;

use crate::body::{Body, ComingBody, Hold};
use crate::route::Mounted;
use crate::{cgi, wasi_http};

const REQUEST: HeaderName = HeaderName::from_static("x-remuda-request");
const ENGINE: HeaderName = HeaderName::from_static("x-remuda-engine");
const REASON: HeaderName = HeaderName::from_static("x-remuda-reason");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The most bytes of a guest's standard error, and of other streams, that go to the log.
const STDERR_LOGGED_MAX: usize = 4096;

pub(crate) type Reply = Response<Body>;

/// The reason why a request never reached a guest, or why its answer never came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// The request breaks a rule of HTTP.
    Malformed(&'static str),
    /// No function could do anything with the request's method.
    NotImplemented,
    /// The request's `Expect` names something else than `100-continue`.
    Expectation,
    NoRoute,
    BodyTooLarge {
        bytes_max: u64,
    },
    BodyBroken,
    BodyTooSlow,
    Rejected(Rejected),
    /// A thread of the host is still busy with the request (with a compiler, say) long after the deadline.
    TooLate,
    /// The host has dropped the request, which it never should do.
    Lost,
}

impl Refusal {
    pub(crate) fn reply(self, id: RequestId) -> Reply {
        let (status, reason) = match self {
            Self::Malformed(problem) => (StatusCode::BAD_REQUEST, format!("the request is malformed: {problem}")),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "this method is not implemented".into()),
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "this server only knows Expect: 100-continue".into()),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no function has this route".to_owned()),
            Self::BodyTooLarge { bytes_max } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request's body is larger than this function takes ({bytes_max} bytes)"),
            ),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the request's body ended early".into()),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "the request's body came too slowly".into()),
            Self::Rejected(rejected) => (StatusCode::SERVICE_UNAVAILABLE, rejected.to_string()),
            Self::TooLate => (StatusCode::GATEWAY_TIMEOUT, "the function did not answer in time".into()),
            Self::Lost => (StatusCode::INTERNAL_SERVER_ERROR, "the host lost the request".into()),
        };
        let mut reply = short(status, &reason, id);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}

/// The header by which a client asks for the reason of the choice.
const EXPLAIN: &str = "x-remuda-explain";

/// The response to what the host answered to a request.
pub(crate) fn respond(
    mounted: &Mounted,
    id: RequestId,
    head: &request::Parts,
    result: Result<Answer, CallError>,
) -> Reply {
    let function = &mounted.function;
    note_end(function, mounted.abi, id, &result);
    let Ok(mut answer) = result else {
        return short(StatusCode::INTERNAL_SERVER_ERROR, "the function could not be run", id);
    };
    let mut reply = match std::mem::take(&mut answer.output.answer) {
        HttpAnswer::Response(response) => {
            wasi_http::response(*response, head).unwrap_or_else(|reason| invalid(function, id, reason))
        }
        HttpAnswer::Refused(reason) => invalid(function, id, &reason),
        HttpAnswer::None | HttpAnswer::Streamed { .. } if answer.outcome.is_success() => success(mounted, id, &answer),
        HttpAnswer::None | HttpAnswer::Streamed { .. } => {
            let (status, reason) = failure(&answer);
            short(status, &reason, id)
        }
    };
    let headers = reply.headers_mut();
    headers.insert(REQUEST, text(id.to_string()));
    headers.insert(SERVER_TIMING, text(server_timing(&answer)));
    if let Some(engine) = answer.engine {
        headers.insert(ENGINE, HeaderValue::from_static(engine.as_str()));
    }
    if head.headers.contains_key(EXPLAIN) {
        headers.insert(REASON, text(answer.reason.to_string()));
    }
    reply
}

/// The response to a client whose guest still writes the body. Dropping the response stops the guest.
pub(crate) async fn respond_streaming(
    mounted: &Mounted,
    id: RequestId,
    head: &request::Parts,
    response: StreamedResponse,
    hold: Hold,
) -> Reply {
    let engine = response.engine;
    let reply = match mounted.abi {
        Abi::Http => wasi_http::streamed(response, head, hold),
        Abi::Stdio => {
            let body = ComingBody::new(Bytes::new(), response.body, hold);
            let mut reply = Response::new(wasi_http::coming(body, head, StatusCode::OK));
            reply.headers_mut().insert(CONTENT_TYPE, text(mounted.endpoint.content_type.clone()));
            Ok(reply)
        }
        Abi::Cgi => {
            let StreamedResponse { body: mut pieces, .. } = response;
            read_cgi_head(&mut pieces).await.map(|cgi::CgiResponse { status, headers, body }| {
                let body = ComingBody::new(body, pieces, hold);
                reply(status, headers, wasi_http::coming(body, head, status))
            })
        }
    };
    let mut reply = reply.unwrap_or_else(|reason| invalid(&mounted.function, id, reason));
    reply.headers_mut().insert(REQUEST, text(id.to_string()));
    reply.headers_mut().insert(ENGINE, HeaderValue::from_static(engine.as_str()));
    reply
}

/// Reads the header of a CGI guest that still writes, and what it has written of the body together with that.
async fn read_cgi_head(pieces: &mut mpsc::Receiver<Piece>) -> Result<cgi::CgiResponse, &'static str> {
    let mut output = BytesMut::new();
    while let Some(Piece::Data(data)) = pieces.recv().await {
        output.extend_from_slice(&data);
        if let Some(response) = cgi::parse_beginning(&output.clone().freeze())? {
            return Ok(response);
        }
    }
    Err("its header has no end")
}

/// Notes in the log how a request ended.
pub(crate) fn note_end(function: &Function, abi: Abi, id: RequestId, result: &Result<Answer, CallError>) {
    match result {
        Ok(answer) => log(function, abi, id, answer),
        Err(error) => tracing::error!(request = %id, function = function.name(), %error, "no engine answered"),
    }
}

fn success(mounted: &Mounted, id: RequestId, answer: &Answer) -> Reply {
    let body = answer.output.stdout.clone();
    match mounted.abi {
        Abi::Stdio => {
            let mut reply = Response::new(body.into());
            reply.headers_mut().insert(CONTENT_TYPE, text(mounted.endpoint.content_type.clone()));
            reply
        }
        Abi::Cgi => match cgi::parse_response(&body) {
            Ok(cgi::CgiResponse { status, headers, body }) => {
                reply(status, headers, if has_content(status) { body.into() } else { Body::default() })
            }
            Err(reason) => {
                let reason = format!("its CGI response is malformed: {reason}");
                invalid(&mounted.function, id, &reason)
            }
        },
        Abi::Http => invalid(&mounted.function, id, "it ended without one"),
    }
}

pub(crate) fn reply(status: StatusCode, headers: HeaderMap, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}

/// The response to a client whose function has given none that can be passed on.
fn invalid(function: &Function, id: RequestId, reason: &str) -> Reply {
    tracing::warn!(request = %id, function = function.name(), reason, "the function gave no valid response");
    short(StatusCode::BAD_GATEWAY, &format!("the function gave no valid response: {reason}"), id)
}

/// Whether a response of this status may have content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
pub(crate) fn has_content(status: StatusCode) -> bool {
    ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

fn failure(answer: &Answer) -> (StatusCode, String) {
    match &answer.outcome {
        Outcome::Interrupted { cause: Cause::Deadline } => {
            (StatusCode::GATEWAY_TIMEOUT, "the function did not answer in time".into())
        }
        Outcome::Interrupted { cause: Cause::Cancelled } => {
            (StatusCode::SERVICE_UNAVAILABLE, "the request was cancelled".into())
        }
        Outcome::LimitExceeded { limit: Limit::Output } => {
            (StatusCode::BAD_GATEWAY, "the function wrote more than its output limit".into())
        }
        Outcome::LimitExceeded { limit } => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the function needed more than its {limit} limit"))
        }
        Outcome::Trapped { kind, .. } => (StatusCode::INTERNAL_SERVER_ERROR, format!("the function trapped: {kind}")),
        Outcome::Exited { code } if answer.refused_growth => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the function exited with code {code} after being refused more memory"),
        ),
        Outcome::Exited { code } => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the function exited with code {code}"))
        }
        Outcome::Returned => (StatusCode::OK, String::new()),
    }
}

/// A response with nothing but a status and a reason.
fn short(status: StatusCode, reason: &str, id: RequestId) -> Reply {
    let mut reply = Response::new(Body::from(Bytes::from(format!("{reason}\nrequest {id}\n"))));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REQUEST, text(id.to_string()));
    reply
}

/// Makes a header's value of text that the server made, or that came from a manifest.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("unprintable"))
}

/// The phases that took time, in milliseconds, in the form of the Server Timing specification. If a guest went on in
/// another engine's code, an entry says how much of its execution that was.
fn server_timing(answer: &Answer) -> String {
    let mut timing = String::with_capacity(80);
    for (name, ns) in answer.phases.named() {
        if ns > 0 {
            entry(&mut timing, format_args!("{name}"), ns);
        }
    }
    for (engine, ns) in answer.went_on_in() {
        entry(&mut timing, format_args!("moved;desc=\"{engine}\""), ns);
    }
    timing
}

/// Adds an entry to what is in `timing` already.
fn entry(timing: &mut String, name: fmt::Arguments<'_>, ns: u64) {
    let separator = if timing.is_empty() { "" } else { ", " };
    // In whole microseconds: numbers are written twice as fast without a floating point.
    let us = ns.saturating_add(500) / 1_000;
    write!(timing, "{separator}{name};dur={}.{:03}", us / 1_000, us % 1_000).expect("a string takes all");
}

fn log(function: &Function, abi: Abi, id: RequestId, answer: &Answer) {
    // That a client has left is nobody's fault, and clients could fill the log.
    let is_usual = answer.outcome.is_success() || answer.outcome == Outcome::Interrupted { cause: Cause::Cancelled };
    if is_usual && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let timing = server_timing(answer);
    let beginning = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(STDERR_LOGGED_MAX)]).into_owned();
    let stderr = beginning(&answer.output.stderr);
    // Of other guests, this is the answer.
    let stdout = if abi == Abi::Http { beginning(&answer.output.stdout) } else { String::new() };
    let (name, outcome, engine) = (function.name(), &answer.outcome, answer.engine.map_or("none", |id| id.as_str()));
    if is_usual {
        tracing::debug!(request = %id, function = name, engine, %outcome, timing, %stderr, stdout, "ended");
    } else {
        tracing::warn!(request = %id, function = name, engine, %outcome, timing, %stderr, stdout,
            reason = &*answer.reason, artifact = %answer.artifact, "the function failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_has_the_phases_that_took_time() {
        let mut timing = String::new();
        entry(&mut timing, format_args!("execute"), 12_345_678);
        entry(&mut timing, format_args!("moved;desc=\"wasmtime.winch\""), 9_800_499);
        entry(&mut timing, format_args!("load"), 40);
        assert_eq!(timing, "execute;dur=12.346, moved;desc=\"wasmtime.winch\";dur=9.800, load;dur=0.000");
    }
}
