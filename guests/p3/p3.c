// A component of WASI 0.3, by the asynchronous functions of the canonical ABI. It answers HTTP requests (`wasi:http/handler`);
// the request's path says how; see `handle`. And it is a command (`wasi:cli/run`); its arguments say what it does; see `run`.
//
// Streams and futures have a readable and a writable end. What has to wait returns `BLOCKED`, and the guest waits for its
// event.

#include "component.h"

#define TYPES "wasi:http/types@0.3.0"
#define REQUEST_BODY "[static]request.consume-body"
#define RESPONSE_BODY "[static]response.consume-body"
#define NEW_REQUEST "[static]request.new"
#define NEW_RESPONSE "[static]response.new"

IMPORT("$root", "[waitable-set-new]") int new_set(void);
IMPORT("$root", "[waitable-set-wait]") int wait_in_set(int, uint32_t *);
IMPORT("$root", "[waitable-join]") void join(int waitable, int set);
IMPORT("$root", "[subtask-drop]") void drop_subtask(int);

IMPORT("wasi:cli/environment@0.3.0", "get-arguments") void get_arguments(void *);
IMPORT("wasi:cli/exit@0.3.0", "exit-with-code") void exit_with_code(int);
IMPORT("wasi:cli/stdin@0.3.0", "read-via-stream") void read_stdin(int *);
IMPORT("wasi:cli/stdin@0.3.0", "[async-lower][stream-read-0]read-via-stream") uint32_t read_input(int, void *, size_t);
IMPORT("wasi:cli/stdout@0.3.0", "write-via-stream") int write_stdout(int);
IMPORT("wasi:cli/stdout@0.3.0", "[stream-new-0]write-via-stream") uint64_t new_output(void);
IMPORT("wasi:cli/stdout@0.3.0", "[async-lower][stream-write-0]write-via-stream") uint32_t write_output(int, const void *, size_t);
IMPORT("wasi:cli/stdout@0.3.0", "[stream-drop-writable-0]write-via-stream") void end_output(int);
IMPORT("wasi:cli/stdout@0.3.0", "[async-lower][future-read-1]write-via-stream") uint32_t read_written(int, void *);
IMPORT("wasi:clocks/monotonic-clock@0.3.0", "[async-lower]wait-for") uint32_t wait_for(uint64_t);

IMPORT(TYPES, "[constructor]fields") int new_fields(void);
IMPORT(TYPES, "[method]fields.append") void append(int, const char *, size_t, const char *, size_t, void *);
IMPORT(TYPES, "[method]fields.copy-all") void copy_all(int, void *);
IMPORT(TYPES, "[method]request.get-method") void request_method(int, void *);
IMPORT(TYPES, "[method]request.get-path-with-query") void request_path(int, void *);
IMPORT(TYPES, "[method]request.get-scheme") void request_scheme(int, void *);
IMPORT(TYPES, "[method]request.get-authority") void request_authority(int, void *);
IMPORT(TYPES, "[method]request.get-headers") int request_headers(int);
IMPORT(TYPES, "[method]request.set-path-with-query") int set_path(int, int, const char *, size_t);
IMPORT(TYPES, "[method]request.set-authority") int set_authority(int, int, const char *, size_t);
IMPORT(TYPES, "[method]request.set-scheme") int set_scheme(int, int, int, const char *, size_t);

IMPORT(TYPES, REQUEST_BODY) void consume_request(int, int, int *);
IMPORT(TYPES, "[future-new-0]" REQUEST_BODY) uint64_t new_taken(void);
IMPORT(TYPES, "[async-lower][future-write-0]" REQUEST_BODY) uint32_t write_taken(int, const void *);
IMPORT(TYPES, "[future-drop-writable-0]" REQUEST_BODY) void end_taken(int);
IMPORT(TYPES, "[async-lower][stream-read-1]" REQUEST_BODY) uint32_t read_body(int, void *, size_t);
IMPORT(TYPES, "[stream-drop-readable-1]" REQUEST_BODY) void drop_body(int);
IMPORT(TYPES, "[async-lower][future-read-2]" REQUEST_BODY) uint32_t read_trailers(int, void *);

IMPORT(TYPES, NEW_REQUEST) void new_request(int, int, int, int, int, int, int *);
IMPORT(TYPES, "[future-new-1]" NEW_REQUEST) uint64_t new_request_trailers(void);
IMPORT(TYPES, "[async-lower][future-write-1]" NEW_REQUEST) uint32_t write_request_trailers(int, const void *);
IMPORT(TYPES, "[method]response.get-status-code") int response_status(int);
IMPORT("wasi:http/client@0.3.0", "[async-lower]send") uint32_t send_request(int, void *);

IMPORT(TYPES, NEW_RESPONSE) void new_response(int, int, int, int, int *);
IMPORT(TYPES, "[stream-new-0]" NEW_RESPONSE) uint64_t new_contents(void);
IMPORT(TYPES, "[async-lower][stream-write-0]" NEW_RESPONSE) uint32_t write_contents(int, const void *, size_t);
IMPORT(TYPES, "[stream-drop-writable-0]" NEW_RESPONSE) void end_contents(int);
IMPORT(TYPES, "[future-new-1]" NEW_RESPONSE) uint64_t new_trailers(void);
IMPORT(TYPES, "[async-lower][future-write-1]" NEW_RESPONSE) uint32_t write_trailers(int, const void *);
IMPORT(TYPES, "[future-drop-writable-1]" NEW_RESPONSE) void end_trailers(int);
IMPORT(TYPES, "[method]response.set-status-code") int set_status(int, int);

IMPORT("[export]wasi:http/handler@0.3.0", "[task-return]handle")
void return_response(int, int, int, int64_t, size_t, int, int, int);
IMPORT("[export]wasi:cli/run@0.3.0", "[task-return]run") void return_run(int);

// What a stream or a future returns that has to wait, or else in its lowest four bits: there was, or is, nobody at the
// other end.
#define BLOCKED UINT32_MAX
#define DROPPED 1
// What a task returns that has ended.
#define EXIT 0
// The most bytes of one read or write.
#define PIECE_MAX 16384

// `result<option<fields>, error-code>`. Error codes have numbers of 64 bits.
typedef struct {
    _Alignas(8) uint8_t is_error;
    // Or the number of the error code.
    _Alignas(8) uint8_t is_some;
    int fields;
    uint8_t payload[24];
} trailers;

static int readable(uint64_t ends) {
    return (int)(uint32_t)ends;
}

static int writable(uint64_t ends) {
    return (int)(uint32_t)(ends >> 32);
}

// The number of the event's outcome, once what is waited for has happened.
static uint32_t await_event(int waitable) {
    static int set;
    if (set == 0) {
        set = new_set();
    }
    join(waitable, set);
    uint32_t event[2];
    do {
        wait_in_set(set, event);
        // A subtask has begun, perhaps, but not returned.
    } while ((int)event[0] != waitable);
    join(waitable, 0);
    return event[1];
}

// The outcome of what a stream or future was asked to do.
static uint32_t done(int end, uint32_t returned) {
    return returned == BLOCKED ? await_event(end) : returned;
}

// Waits for a function that was called: its state is in the lowest four bits, and above them its number.
static void returned(uint32_t status) {
    enum { RETURNED = 2 };
    if ((status & 15) == RETURNED) {
        return;
    }
    int subtask = (int)(status >> 4);
    while (await_event(subtask) != RETURNED) {
    }
    drop_subtask(subtask);
}

static void wait_ms(uint64_t ms) {
    returned(wait_for(ms * 1000000));
}

// ---- responses ----

typedef struct {
    int contents;
    int trailers;
} writer;

static void add(int fields, text name, text value) {
    uint8_t result[20];
    append(fields, name.data, name.length, value.data, value.length, result);
    check(result[0] == 0);
}

// Answers with a response, of which the guest then writes the body.
static writer begin(int status, int fields) {
    uint64_t contents = new_contents(), after = new_trailers();
    int response[2];
    new_response(fields, 1, readable(contents), readable(after), response);
    check(set_status(response[0], status) == 0);
    return_response(0, response[0], 0, 0, 0, 0, 0, 0);
    return (writer){writable(contents), writable(after)};
}

// Writes to a response's body; false if nobody takes it any more.
static bool put(writer to, text data) {
    while (data.length > 0) {
        size_t length = data.length < PIECE_MAX ? data.length : PIECE_MAX;
        uint32_t outcome = done(to.contents, write_contents(to.contents, data.data, length));
        if ((outcome & 15) == DROPPED) {
            return false;
        }
        data.data += outcome >> 4;
        data.length -= outcome >> 4;
    }
    return true;
}

// Ends a response's body, with these trailer fields unless they are 0.
static void finish(writer of, int fields) {
    end_contents(of.contents);
    trailers last = {0, fields != 0, fields, {0}};
    done(of.trailers, write_trailers(of.trailers, &last));
    end_trailers(of.trailers);
}

// Answers, and writes so many bytes of the body, as long as somebody takes them.
static writer begin_bytes(uint64_t left) {
    static const char BYTES[PIECE_MAX];
    writer to = begin(200, new_fields());
    bool goes_on = true;
    while (left > 0 && goes_on) {
        size_t length = left < PIECE_MAX ? (size_t)left : PIECE_MAX;
        goes_on = put(to, (text){BYTES, length});
        left -= length;
    }
    return to;
}

static void answer(int status, text data) {
    int fields = new_fields();
    add(fields, TEXT("content-type"), TEXT("text/plain"));
    writer to = begin(status, fields);
    put(to, data);
    finish(to, 0);
}

// ---- requests ----

// Says what the guest sees of a request.
static void describe(int request) {
    static const text METHODS[] = {TEXT("GET"), TEXT("HEAD"), TEXT("POST"), TEXT("PUT"), TEXT("DELETE"),
                                   TEXT("CONNECT"), TEXT("OPTIONS"), TEXT("TRACE"), TEXT("PATCH")};
    struct {
        uint8_t tag;
        text other;
    } method;
    struct {
        uint8_t is_some;
        struct {
            uint8_t tag;
            text other;
        } value;
    } scheme;
    struct {
        struct {
            text name, value;
        } *entries;
        size_t length;
    } list;
    maybe_text path, authority;
    request_method(request, &method);
    request_path(request, &path);
    request_scheme(request, &scheme);
    request_authority(request, &authority);
    copy_all(request_headers(request), &list);
    writer to = begin(200, new_fields());
    put(to, method.tag < 9 ? METHODS[method.tag] : method.other);
    put(to, TEXT(" "));
    put(to, path.is_some ? path.value : TEXT("no path"));
    put(to, TEXT("\n"));
    put(to, !scheme.is_some ? TEXT("no scheme") : scheme.value.tag == 0 ? TEXT("http") : TEXT("https"));
    put(to, TEXT("://"));
    put(to, authority.is_some ? authority.value : TEXT("no authority"));
    put(to, TEXT("\n"));
    for (size_t i = 0; i < list.length; i++) {
        put(to, list.entries[i].name);
        put(to, TEXT(": "));
        put(to, list.entries[i].value);
        put(to, TEXT("\n"));
    }
    finish(to, 0);
}

// Answers with the request's own body, piece by piece, and its trailer fields.
static void echo(int request) {
    static char piece[PIECE_MAX];
    int body[2];
    uint64_t taken = new_taken();
    consume_request(request, readable(taken), body);
    writer to = begin(200, new_fields());
    while (true) {
        uint32_t outcome = done(body[0], read_body(body[0], piece, sizeof piece));
        put(to, (text){piece, outcome >> 4});
        if ((outcome & 15) == DROPPED) {
            break;
        }
    }
    drop_body(body[0]);
    trailers last;
    done(body[1], read_trailers(body[1], &last));
    // A body that was broken off is no answer.
    check(last.is_error == 0);
    static const uint64_t OK[5];
    done(writable(taken), write_taken(writable(taken), OK));
    end_taken(writable(taken));
    finish(to, last.is_some ? last.fields : 0);
}

// Answers with the request's body as it is: no task of the guest moves its bytes.
static void pass_through(int request) {
    int body[2], response[2];
    uint64_t taken = new_taken();
    consume_request(request, readable(taken), body);
    new_response(new_fields(), 1, body[0], body[1], response);
    return_response(0, response[0], 0, 0, 0, 0, 0, 0);
    static const uint64_t OK[5];
    done(writable(taken), write_taken(writable(taken), OK));
    end_taken(writable(taken));
}

// Sends a request, and answers with the status of its response, or with the number of its error after "error ".
static void fetch(text authority) {
    uint64_t after = new_request_trailers();
    int request[2];
    new_request(new_fields(), 0, 0, readable(after), 0, 0, request);
    check(set_path(request[0], 1, "/", 1) == 0);
    check(set_authority(request[0], 1, authority.data, authority.length) == 0);
    check(set_scheme(request[0], 1, 0, NULL, 0) == 0);
    static const trailers NONE;
    uint32_t written = write_request_trailers(writable(after), &NONE);
    struct {
        _Alignas(8) uint8_t is_error;
        _Alignas(8) union {
            int handle;
            uint8_t error;
        };
        uint8_t payload[32];
    } response;
    returned(send_request(request[0], &response));
    done(writable(after), written);
    writer to = begin(200, new_fields());
    put(to, response.is_error ? TEXT("error ") : TEXT("status "));
    put(to, decimal(response.is_error ? response.error : (uint64_t)response_status(response.handle)));
    finish(to, 0);
}

// ---- what a path asks for ----

__attribute__((export_name("[async-lift]wasi:http/handler@0.3.0#handle"))) int handle(int request) {
    static uint64_t requests;
    requests++;
    arena_used = 0;
    maybe_text whole;
    request_path(request, &whole);
    check(whole.is_some);
    text path = whole.value;
    if (skip(&path, TEXT("/hello"))) {
        answer(200, TEXT("hello\n"));
    } else if (skip(&path, TEXT("/request"))) {
        describe(request);
    } else if (skip(&path, TEXT("/echo"))) {
        echo(request);
    } else if (skip(&path, TEXT("/through"))) {
        pass_through(request);
    } else if (skip(&path, TEXT("/status/"))) {
        answer((int)number(path), TEXT("hello\n"));
    } else if (skip(&path, TEXT("/bytes/"))) {
        finish(begin_bytes(number(path)), 0);
    } else if (skip(&path, TEXT("/length/"))) {
        // Says that the body has so many bytes, and writes six.
        int fields = new_fields();
        add(fields, TEXT("content-length"), path);
        writer to = begin(200, fields);
        put(to, TEXT("hello\n"));
        finish(to, 0);
    } else if (skip(&path, TEXT("/trailers"))) {
        int fields = new_fields();
        add(fields, TEXT("trailer"), TEXT("x-sum"));
        writer to = begin(200, fields);
        put(to, TEXT("hello\n"));
        int last = new_fields();
        add(last, TEXT("x-sum"), TEXT("42"));
        finish(to, last);
    } else if (skip(&path, TEXT("/count"))) {
        answer(200, decimal(requests));
    } else if (skip(&path, TEXT("/fetch/"))) {
        fetch(path);
    } else if (skip(&path, TEXT("/nothing"))) {
        // Returns without an answer, which the component model forbids.
    } else if (skip(&path, TEXT("/error"))) {
        // internal-error, the last of the error codes, with its words.
        text words = TEXT("out of order");
        return_response(1, 38, 1, (int64_t)(size_t)words.data, words.length, 0, 0, 0);
    } else if (skip(&path, TEXT("/trap-midway"))) {
        put(begin(200, new_fields()), TEXT("hello\n"));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap-after/"))) {
        begin_bytes(number(path));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap-afterwards"))) {
        answer(200, TEXT("hello\n"));
        __builtin_trap();
    } else if (skip(&path, TEXT("/trap"))) {
        __builtin_trap();
    } else if (skip(&path, TEXT("/abort"))) {
        writer to = begin(200, new_fields());
        put(to, TEXT("hello\n"));
        end_contents(to.contents);
        // internal-error, without words.
        trailers failed = {1, 38, 0, {0}};
        done(to.trailers, write_trailers(to.trailers, &failed));
        end_trailers(to.trailers);
    } else if (skip(&path, TEXT("/spin-afterwards"))) {
        answer(200, TEXT("hello\n"));
        for (volatile int i = 0;; i++) {
        }
    } else if (skip(&path, TEXT("/spin"))) {
        for (volatile int i = 0;; i++) {
        }
    } else if (skip(&path, TEXT("/sleep-afterwards/"))) {
        answer(200, TEXT("hello\n"));
        wait_ms(number(path));
    } else if (skip(&path, TEXT("/sleep/"))) {
        wait_ms(number(path));
        answer(200, TEXT("hello\n"));
    } else if (skip(&path, TEXT("/sleep-midway/"))) {
        writer to = begin(200, new_fields());
        put(to, TEXT("hel"));
        wait_ms(number(path));
        put(to, TEXT("lo\n"));
        finish(to, 0);
    } else if (skip(&path, TEXT("/hoard"))) {
        // Makes streams, and lets go of none.
        while (true) {
            new_contents();
        }
    } else {
        answer(404, TEXT("there is no such thing\n"));
    }
    return EXIT;
}

__attribute__((export_name("[callback][async-lift]wasi:http/handler@0.3.0#handle"))) int handle_event(
    int event, int waitable, int outcome) {
    (void)event, (void)waitable, (void)outcome;
    // A task waits within, and has ended when it returns.
    __builtin_trap();
}

// ---- what the arguments ask for ----

// Writes to standard output; false if that takes no more.
static bool print(int to, text data) {
    while (data.length > 0) {
        uint32_t outcome = done(to, write_output(to, data.data, data.length));
        if ((outcome & 15) == DROPPED) {
            return false;
        }
        data.data += outcome >> 4;
        data.length -= outcome >> 4;
    }
    return true;
}

__attribute__((export_name("[async-lift]wasi:cli/run@0.3.0#run"))) int run(void) {
    struct {
        text *items;
        size_t length;
    } arguments;
    get_arguments(&arguments);
    uint64_t output = new_output();
    int to = writable(output), written = write_stdout(readable(output));
    bool has_succeeded = true;
    text what = arguments.length > 1 ? arguments.items[1] : TEXT("hello");
    if (skip(&what, TEXT("hello"))) {
        print(to, TEXT("hello\n"));
    } else if (skip(&what, TEXT("cat"))) {
        static char piece[PIECE_MAX];
        int input[2];
        read_stdin(input);
        uint32_t outcome;
        do {
            outcome = done(input[0], read_input(input[0], piece, sizeof piece));
            print(to, (text){piece, outcome >> 4});
        } while ((outcome & 15) != DROPPED);
    } else if (skip(&what, TEXT("flood"))) {
        // Writes until nobody takes it, and takes that for success.
        while (print(to, TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))) {
        }
    } else if (skip(&what, TEXT("sleep"))) {
        wait_ms(1000 * 3600);
    } else if (skip(&what, TEXT("spin"))) {
        for (volatile int i = 0;; i++) {
        }
    } else if (skip(&what, TEXT("exit"))) {
        exit_with_code(7);
    } else if (skip(&what, TEXT("trap"))) {
        __builtin_trap();
    } else {
        has_succeeded = false;
    }
    end_output(to);
    // `result<_, error-code>`.
    uint8_t result[2];
    done(written, read_written(written, result));
    return_run(!has_succeeded);
    return EXIT;
}

__attribute__((export_name("[callback][async-lift]wasi:cli/run@0.3.0#run"))) int run_event(
    int event, int waitable, int outcome) {
    (void)event, (void)waitable, (void)outcome;
    __builtin_trap();
}
