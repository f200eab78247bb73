// Answers HTTP requests as a component of WASI 0.2 (`wasi:http/incoming-handler`). The request's path says how; see
// `handle` at the end. The functions of WASI are called as the canonical ABI of the component model has them: a handle is
// an int, a string is an address and a length, and a result that is no single number is written to an address.

#include "component.h"

#define TYPES "wasi:http/types@0.2.0"
#define STREAMS "wasi:io/streams@0.2.0"

IMPORT(TYPES, "[constructor]fields") int new_fields(void);
IMPORT(TYPES, "[method]fields.append") void append(int, const char *, size_t, const char *, size_t, void *);
IMPORT(TYPES, "[method]fields.entries") void entries(int, void *);
IMPORT(TYPES, "[resource-drop]fields") void drop_fields(int);
IMPORT(TYPES, "[method]incoming-request.method") void request_method(int, void *);
IMPORT(TYPES, "[method]incoming-request.path-with-query") void request_path(int, void *);
IMPORT(TYPES, "[method]incoming-request.scheme") void request_scheme(int, void *);
IMPORT(TYPES, "[method]incoming-request.authority") void request_authority(int, void *);
IMPORT(TYPES, "[method]incoming-request.headers") int request_headers(int);
IMPORT(TYPES, "[method]incoming-request.consume") void consume(int, void *);
IMPORT(TYPES, "[method]incoming-body.stream") void body_stream(int, void *);
IMPORT(TYPES, "[static]incoming-body.finish") int finish_incoming(int);
IMPORT(TYPES, "[method]future-trailers.subscribe") int subscribe_trailers(int);
IMPORT(TYPES, "[method]future-trailers.get") void get_trailers(int, void *);
IMPORT(TYPES, "[static]response-outparam.set")
void set_response(int, int, int, int, int64_t, size_t, int, int, int);
IMPORT(TYPES, "[constructor]outgoing-response") int new_response(int);
IMPORT(TYPES, "[method]outgoing-response.set-status-code") int set_status(int, int);
IMPORT(TYPES, "[method]outgoing-response.body") void response_body(int, void *);
IMPORT(TYPES, "[method]outgoing-body.write") void body_write(int, void *);
IMPORT(TYPES, "[static]outgoing-body.finish") void finish_outgoing(int, int, int, void *);
IMPORT(TYPES, "[resource-drop]outgoing-body") void drop_outgoing_body(int);
IMPORT(TYPES, "[constructor]outgoing-request") int new_request(int);
IMPORT(TYPES, "[method]outgoing-request.set-path-with-query") int set_path(int, int, const char *, size_t);
IMPORT(TYPES, "[method]outgoing-request.set-authority") int set_authority(int, int, const char *, size_t);
IMPORT(TYPES, "[method]outgoing-request.set-scheme") int set_scheme(int, int, int, const char *, size_t);
IMPORT(TYPES, "[method]future-incoming-response.subscribe") int subscribe_response(int);
IMPORT(TYPES, "[method]future-incoming-response.get") void get_response(int, void *);
IMPORT(TYPES, "[method]incoming-response.status") int response_status(int);
IMPORT(TYPES, "[method]incoming-response.consume") void consume_response(int, void *);
IMPORT(TYPES, "[resource-drop]future-incoming-response") void drop_future_response(int);
IMPORT("wasi:http/outgoing-handler@0.2.0", "handle") void send_request(int, int, int, void *);
IMPORT(STREAMS, "[method]input-stream.blocking-read") void blocking_read(int, uint64_t, void *);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush") void blocking_write(int, const char *, size_t, void *);
IMPORT(STREAMS, "[resource-drop]input-stream") void drop_input(int);
IMPORT(STREAMS, "[resource-drop]output-stream") void drop_output(int);
IMPORT("wasi:io/poll@0.2.0", "[method]pollable.block") void block(int);
IMPORT("wasi:io/poll@0.2.0", "[resource-drop]pollable") void drop_pollable(int);
IMPORT("wasi:clocks/monotonic-clock@0.2.0", "subscribe-duration") int subscribe_duration(uint64_t);
IMPORT("wasi:cli/stderr@0.2.0", "get-stderr") int get_stderr(void);

// The most bytes of one blocking write.
#define WRITE_MAX 4096
// The most bytes of one read.
#define READ_MAX 16384

// A handle that may be missing: `result<handle>` and `option<handle>`.
typedef struct {
    uint8_t tag;
    int handle;
} maybe_handle;

// `option<result<result<handle, error-code>>>`. Error codes have numbers of 64 bits.
typedef struct {
    _Alignas(8) uint8_t is_some;
    _Alignas(8) uint8_t outer;
    _Alignas(8) uint8_t inner;
    // `option<fields>` for trailers; a handle for responses; the number of an error code.
    _Alignas(8) union {
        maybe_handle trailers;
        int handle;
        uint8_t error;
    };
    uint8_t payload[32];
} eventual;

// ---- responses ----

// A response whose body is being written.
typedef struct {
    int body;
    int stream;
} writer;

static void add(int fields, text name, text value) {
    uint8_t result[2];
    append(fields, name.data, name.length, value.data, value.length, result);
    check(result[0] == 0);
}

// Sets a response with these header fields, of which the guest then writes the body.
static writer begin(int outparam, int status, int fields) {
    int response = new_response(fields);
    check(set_status(response, status) == 0);
    maybe_handle body, stream;
    response_body(response, &body);
    check(body.tag == 0);
    body_write(body.handle, &stream);
    check(stream.tag == 0);
    set_response(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    return (writer){body.handle, stream.handle};
}

// Writes to a stream, piece by piece; false if nobody takes it any more.
static bool put_to(int stream, text data) {
    while (data.length > 0) {
        size_t length = data.length < WRITE_MAX ? data.length : WRITE_MAX;
        struct {
            uint8_t tag;
            struct {
                uint8_t tag;
                int handle;
            } error;
        } result;
        blocking_write(stream, data.data, length, &result);
        if (result.tag != 0) {
            return false;
        }
        data.data += length;
        data.length -= length;
    }
    return true;
}

static bool put(writer to, text data) {
    return put_to(to.stream, data);
}

// Ends a response's body, with these trailer fields unless they are 0. Returns whether the host takes it as complete.
static bool finish(writer of, int trailers) {
    eventual result;
    drop_output(of.stream);
    finish_outgoing(of.body, trailers != 0, trailers, &result);
    return result.is_some == 0;
}

// Sets a response, and writes so many bytes of its body, as long as somebody takes them.
static writer begin_bytes(int outparam, uint64_t left) {
    static const char BYTES[WRITE_MAX];
    writer to = begin(outparam, 200, new_fields());
    bool goes_on = true;
    while (left > 0 && goes_on) {
        size_t length = left < WRITE_MAX ? (size_t)left : WRITE_MAX;
        goes_on = put(to, (text){BYTES, length});
        left -= length;
    }
    return to;
}

static void answer(int outparam, int status, text data) {
    int fields = new_fields();
    add(fields, TEXT("content-type"), TEXT("text/plain"));
    writer to = begin(outparam, status, fields);
    put(to, data);
    finish(to, 0);
}

static void answer_number(int outparam, uint64_t n) {
    answer(outparam, 200, decimal(n));
}

// ---- requests ----

static int body_of(int request) {
    maybe_handle body;
    consume(request, &body);
    check(body.tag == 0);
    return body.handle;
}

// Copies a request's body, and drops the stream it came by.
static void copy(int body, writer to) {
    maybe_handle stream;
    body_stream(body, &stream);
    check(stream.tag == 0);
    while (true) {
        size_t mark = arena_used;
        struct {
            uint8_t tag;
            union {
                text data;
                uint8_t error;
            };
        } read;
        blocking_read(stream.handle, READ_MAX, &read);
        if (read.tag != 0) {
            // The stream is closed; else its body was broken off.
            check(read.error == 1);
            break;
        }
        put(to, read.data);
        arena_used = mark;
    }
    drop_input(stream.handle);
}

// The trailer fields after a body whose stream is dropped; 0 for none.
static int trailers_after(int body) {
    int future = finish_incoming(body);
    int ready = subscribe_trailers(future);
    block(ready);
    drop_pollable(ready);
    eventual trailers;
    get_trailers(future, &trailers);
    check(trailers.is_some == 1 && trailers.outer == 0 && trailers.inner == 0);
    return trailers.trailers.tag == 0 ? 0 : trailers.trailers.handle;
}

static void put_fields(writer to, int fields) {
    struct {
        struct {
            text name, value;
        } *entries;
        size_t length;
    } list;
    entries(fields, &list);
    for (size_t i = 0; i < list.length; i++) {
        put(to, list.entries[i].name);
        put(to, TEXT(": "));
        put(to, list.entries[i].value);
        put(to, TEXT("\n"));
    }
}

// Says what the guest sees of a request.
static void describe(int request, int outparam) {
    static const text METHODS[] = {TEXT("GET"), TEXT("HEAD"), TEXT("POST"), TEXT("PUT"), TEXT("DELETE"),
                                   TEXT("CONNECT"), TEXT("OPTIONS"), TEXT("TRACE"), TEXT("PATCH")};
    writer to = begin(outparam, 200, new_fields());
    // `option<scheme>`.
    struct {
        uint8_t is_some;
        struct {
            uint8_t tag;
            text other;
        } value;
    } scheme;
    maybe_text method, path, authority;
    request_method(request, &method);
    request_path(request, &path);
    request_scheme(request, &scheme);
    request_authority(request, &authority);
    // A variant whose last case is any other word.
    put(to, method.is_some < 9 ? METHODS[method.is_some] : method.value);
    put(to, TEXT(" "));
    put(to, path.is_some ? path.value : TEXT("no path"));
    put(to, TEXT("\n"));
    check(scheme.is_some);
    put(to, scheme.value.tag == 0 ? TEXT("http") : TEXT("https"));
    put(to, TEXT("://"));
    put(to, authority.is_some ? authority.value : TEXT("no authority"));
    put(to, TEXT("\n"));
    put_fields(to, request_headers(request));
    finish(to, 0);
}

static void echo(int request, int outparam) {
    writer to = begin(outparam, 200, new_fields());
    int body = body_of(request);
    copy(body, to);
    finish(to, trailers_after(body));
}

// Says how the host takes fields that a guest may not set, or that have bad names or values: 0 if it takes them, else the
// number of the error and one.
static void try_fields(int outparam) {
    static const text FIELDS[][2] = {
        {TEXT("x-good"), TEXT("value")}, {TEXT("connection"), TEXT("close")}, {TEXT("host"), TEXT("elsewhere")},
        {TEXT("transfer-encoding"), TEXT("chunked")}, {TEXT("upgrade"), TEXT("h2c")}, {TEXT("bad name"), TEXT("value")},
        {TEXT("x-bad"), TEXT("a\nb")}, {TEXT("keep-alive"), TEXT("5")}, {TEXT("content-length"), TEXT("x")},
    };
    writer to = begin(outparam, 200, new_fields());
    int fields = new_fields();
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        uint8_t result[2];
        append(fields, FIELDS[i][0].data, FIELDS[i][0].length, FIELDS[i][1].data, FIELDS[i][1].length, result);
        put(to, FIELDS[i][0]);
        put(to, TEXT(" "));
        put(to, decimal(result[0] == 0 ? 0 : result[1] + 1u));
        put(to, TEXT("\n"));
    }
    finish(to, 0);
}

// Sends a request to a server. Returns the response's handle, or the negated number of the error and one.
static int fetch(bool is_https, text authority) {
    int request = new_request(new_fields());
    check(set_path(request, 1, "/", 1) == 0);
    check(set_authority(request, 1, authority.data, authority.length) == 0);
    check(set_scheme(request, 1, is_https, NULL, 0) == 0);
    eventual sent;
    send_request(request, 0, 0, &sent);
    if (sent.is_some != 0) {
        return -1 - sent.outer;
    }
    // `result<handle, error-code>`: the handle begins at the alignment of error codes.
    int future = *(int *)((char *)&sent + 8);
    int ready = subscribe_response(future);
    block(ready);
    drop_pollable(ready);
    eventual response;
    get_response(future, &response);
    check(response.is_some == 1 && response.outer == 0);
    drop_future_response(future);
    return response.inner == 0 ? response.handle : -1 - response.error;
}

// Sends so many requests to a server, and answers with the status of the last response, or with the number of its error
// after "error ".
static void fetch_times(int outparam, uint64_t times, text authority) {
    int response = 0;
    for (uint64_t i = 0; i < times; i++) {
        response = fetch(false, authority);
    }
    writer to = begin(outparam, 200, new_fields());
    put(to, response >= 0 ? TEXT("status ") : TEXT("error "));
    put(to, decimal((uint64_t)(response >= 0 ? response_status(response) : -1 - response)));
    finish(to, 0);
}

// Answers with what a server answers; with 599 and the number of the error if it does not.
static void relay(int outparam, bool is_https, text authority) {
    int response = fetch(is_https, authority);
    if (response < 0) {
        answer(outparam, 599, decimal((uint64_t)(-1 - response)));
        return;
    }
    writer to = begin(outparam, response_status(response), new_fields());
    maybe_handle body;
    consume_response(response, &body);
    check(body.tag == 0);
    copy(body.handle, to);
    finish(to, 0);
}

static void wait_ms(uint64_t ms) {
    int ready = subscribe_duration(ms * 1000000);
    block(ready);
    drop_pollable(ready);
}

// ---- what a path asks for ----

__attribute__((export_name("wasi:http/incoming-handler@0.2.0#handle"))) void handle(int request, int outparam) {
    static uint64_t requests;
    requests++;
    arena_used = 0;
    maybe_text whole;
    request_path(request, &whole);
    check(whole.is_some);
    text path = whole.value;
    if (skip(&path, TEXT("/hello"))) {
        answer(outparam, 200, TEXT("hello\n"));
    } else if (skip(&path, TEXT("/request"))) {
        describe(request, outparam);
    } else if (skip(&path, TEXT("/echo"))) {
        echo(request, outparam);
    } else if (skip(&path, TEXT("/status/"))) {
        answer(outparam, (int)number(path), TEXT("hello\n"));
    } else if (skip(&path, TEXT("/bytes/"))) {
        finish(begin_bytes(outparam, number(path)), 0);
    } else if (skip(&path, TEXT("/length/"))) {
        // Says that the body has so many bytes, and writes six; then says on standard error whether the host took it.
        int fields = new_fields();
        add(fields, TEXT("content-length"), path);
        writer to = begin(outparam, 200, fields);
        put(to, TEXT("hello\n"));
        put_to(get_stderr(), finish(to, 0) ? TEXT("taken\n") : TEXT("not taken\n"));
    } else if (skip(&path, TEXT("/no-body/"))) {
        // Says how long a body would be, and has none.
        int fields = new_fields();
        add(fields, TEXT("content-length"), path);
        set_response(outparam, 0, new_response(fields), 0, 0, 0, 0, 0, 0);
    } else if (skip(&path, TEXT("/trailers"))) {
        int fields = new_fields();
        add(fields, TEXT("trailer"), TEXT("x-sum"));
        writer to = begin(outparam, 200, fields);
        put(to, TEXT("hello\n"));
        int trailers = new_fields();
        add(trailers, TEXT("x-sum"), TEXT("42"));
        finish(to, trailers);
    } else if (skip(&path, TEXT("/fields"))) {
        try_fields(outparam);
    } else if (skip(&path, TEXT("/count"))) {
        answer_number(outparam, requests);
    } else if (skip(&path, TEXT("/fetch/"))) {
        uint64_t times = number(path);
        while (path.length > 0 && !skip(&path, TEXT("/"))) {
            path.data++;
            path.length--;
        }
        fetch_times(outparam, times, path);
    } else if (skip(&path, TEXT("/relay/"))) {
        bool is_https = skip(&path, TEXT("https/"));
        check(is_https || skip(&path, TEXT("http/")));
        relay(outparam, is_https, path);
    } else if (skip(&path, TEXT("/nothing"))) {
        // Returns without an answer.
    } else if (skip(&path, TEXT("/error"))) {
        // internal-error, the last of the error codes, with its words.
        text words = TEXT("out of order");
        set_response(outparam, 1, 38, 1, (int64_t)(size_t)words.data, words.length, 0, 0, 0);
    } else if (skip(&path, TEXT("/trap-midway"))) {
        writer to = begin(outparam, 200, new_fields());
        put(to, TEXT("hello\n"));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap-after/"))) {
        begin_bytes(outparam, number(path));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap-afterwards"))) {
        answer(outparam, 200, TEXT("hello\n"));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap"))) {
        __builtin_trap();
    } else if (skip(&path, TEXT("/abort"))) {
        writer to = begin(outparam, 200, new_fields());
        put(to, TEXT("hello\n"));
        drop_output(to.stream);
        drop_outgoing_body(to.body);
    } else if (skip(&path, TEXT("/leak"))) {
        put(begin(outparam, 200, new_fields()), TEXT("hello\n"));
    } else if (skip(&path, TEXT("/spin-afterwards"))) {
        answer(outparam, 200, TEXT("hello\n"));
        for (volatile int i = 0;; i++) {
        }
    } else if (skip(&path, TEXT("/spin"))) {
        for (volatile int i = 0;; i++) {
        }
    } else if (skip(&path, TEXT("/sleep-afterwards/"))) {
        answer(outparam, 200, TEXT("hello\n"));
        wait_ms(number(path));
    } else if (skip(&path, TEXT("/sleep/"))) {
        wait_ms(number(path));
        answer(outparam, 200, TEXT("hello\n"));
    } else if (skip(&path, TEXT("/sleep-midway/"))) {
        writer to = begin(outparam, 200, new_fields());
        put(to, TEXT("hel"));
        wait_ms(number(path));
        put(to, TEXT("lo\n"));
        finish(to, 0);
    } else if (skip(&path, TEXT("/hoard"))) {
        // Holds on to responses, with as much in the body of each as the host takes without anybody who reads it.
        while (true) {
            maybe_handle body, stream;
            response_body(new_response(new_fields()), &body);
            body_write(body.handle, &stream);
            put_to(stream.handle, TEXT("hello\n"));
        }
    } else if (skip(&path, TEXT("/log"))) {
        put_to(get_stderr(), TEXT("a line for the log\n"));
        answer(outparam, 200, TEXT("hello\n"));
    } else {
        answer(outparam, 404, TEXT("there is no such thing\n"));
    }
}
