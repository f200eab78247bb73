//! A component that answers HTTP requests: Markdown in, HTML out.

use pulldown_cmark::{Options, Parser, html};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// The bytes that are read or written at once: as many as the host takes.
const PIECE_BYTES: usize = 4096;

struct Server;

wasip2::http::proxy::export!(Server);

impl Guest for Server {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let (status, content_type, body) = match request.method() {
            Method::Post => match read(&request).map(String::from_utf8) {
                Ok(Ok(markdown)) => (200, "text/html; charset=utf-8", to_html(&markdown)),
                Ok(Err(_)) => (400, "text/plain", "the body is no UTF-8\n".to_owned()),
                Err(reason) => (400, "text/plain", reason + "\n"),
            },
            _ => (405, "text/plain", "send Markdown by POST\n".to_owned()),
        };
        respond(response_out, status, content_type, body.as_bytes());
    }
}

fn to_html(markdown: &str) -> String {
    let mut page = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut page, Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH));
    page
}

fn read(request: &IncomingRequest) -> Result<Vec<u8>, String> {
    let body = request.consume().map_err(|()| "the body was taken before")?;
    let mut bytes = Vec::new();
    {
        let stream = body.stream().map_err(|()| "the body was taken before")?;
        loop {
            match stream.blocking_read(PIECE_BYTES as u64) {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
            }
        }
    }
    drop(IncomingBody::finish(body));
    Ok(bytes)
}

fn respond(response_out: ResponseOutparam, status: u16, content_type: &str, content: &[u8]) {
    let fields = Fields::new();
    fields.set("content-type", &[content_type.into()]).expect("it is a valid field");
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("it is a valid status");
    let body = response.body().expect("nobody took it before");
    ResponseOutparam::set(response_out, Ok(response));
    {
        let stream = body.write().expect("nobody took it before");
        for piece in content.chunks(PIECE_BYTES) {
            if stream.blocking_write_and_flush(piece).is_err() {
                // The client has left.
                return;
            }
        }
    }
    // Without trailers. If this fails, the client sees that the body is not whole.
    let _ = OutgoingBody::finish(body, None);
}
