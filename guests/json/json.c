/* Checks a JSON document strictly and prints it again, compact or with --pretty. RFC 8259, The JavaScript Object
 * Notation Data Interchange Format. Numbers and strings keep their spelling, object members their order. */
#include "../common/number.h"
#include "../common/read_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 64 * 1024 * 1024, DEPTH_MAX = 512, INDENT = 2 };

/* The document is read twice: once to check it, with printing off, and once to print it.
 * So a bad document prints nothing, and the output needs no memory. */
struct reader {
    const uint8_t *start, *at, *end;
    const char *problem; /* NULL while all is well; at stands where it was found */
    bool printing, pretty;
    size_t depth;
    bool in_object[DEPTH_MAX]; /* what each open bracket is */
};

static bool fail(struct reader *r, const char *problem)
{
    if (r->problem == NULL)
        r->problem = problem;
    return false;
}

/* ---- output ---- */

static void put(struct reader *r, const void *text, size_t length)
{
    if (r->printing)
        fwrite(text, 1, length, stdout);
}

static void put_char(struct reader *r, int c)
{
    if (r->printing)
        putchar(c);
}

static void new_line(struct reader *r)
{
    if (!r->printing || !r->pretty)
        return;
    putchar('\n');
    for (size_t i = 0; i < r->depth * INDENT; i++)
        putchar(' ');
}

/* ---- tokens ---- */

/* The byte at hand, or -1 at the end; zero bytes are bytes like others. */
static int peek(const struct reader *r) { return r->at < r->end ? *r->at : -1; }

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static bool is_hex_digit(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool literal(struct reader *r, const char *word)
{
    const uint8_t *from = r->at;
    for (const char *p = word; *p != 0; p++) {
        if (peek(r) != *p)
            return fail(r, "this is no JSON value");
        r->at++;
    }
    put(r, from, (size_t)(r->at - from));
    return true;
}

static bool digits(struct reader *r)
{
    if (!is_digit(peek(r)))
        return fail(r, "a digit is missing");
    while (is_digit(peek(r)))
        r->at++;
    return true;
}

/* Section 6: number = [ minus ] int [ frac ] [ exp ]. */
static bool number(struct reader *r)
{
    const uint8_t *from = r->at;
    if (peek(r) == '-')
        r->at++;
    if (peek(r) == '0') {
        r->at++;
        if (is_digit(peek(r)))
            return fail(r, "a number must not begin with a zero");
    } else if (!digits(r)) {
        return false;
    }
    if (peek(r) == '.') {
        r->at++;
        if (!digits(r))
            return false;
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        if (peek(r) == '+' || peek(r) == '-')
            r->at++;
        if (!digits(r))
            return false;
    }
    put(r, from, (size_t)(r->at - from));
    return true;
}

/* RFC 3629, section 4: one character of two to four bytes, in its shortest form, no surrogates, at most U+10FFFF. */
static bool utf8_tail(struct reader *r)
{
    int lead = *r->at;
    int low = 0x80, high = 0xbf, more;
    if (lead >= 0xc2 && lead <= 0xdf)
        more = 1;
    else if (lead >= 0xe0 && lead <= 0xef)
        more = 2;
    else if (lead >= 0xf0 && lead <= 0xf4)
        more = 3;
    else
        return fail(r, "this is not UTF-8");
    if (lead == 0xe0)
        low = 0xa0;
    if (lead == 0xed)
        high = 0x9f;
    if (lead == 0xf0)
        low = 0x90;
    if (lead == 0xf4)
        high = 0x8f;
    for (int i = 1; i <= more; i++) {
        if (r->end - r->at <= i || r->at[i] < low || r->at[i] > high)
            return fail(r, "this is not UTF-8");
        low = 0x80;
        high = 0xbf;
    }
    r->at += more + 1;
    return true;
}

static bool escape(struct reader *r)
{
    r->at++;
    int c = peek(r);
    if (c == 'u') {
        r->at++;
        for (int i = 0; i < 4; i++, r->at++)
            if (!is_hex_digit(peek(r)))
                return fail(r, "\\u wants four hexadecimal digits");
        return true;
    }
    if (c < 1 || strchr("\"\\/bfnrt", c) == NULL)
        return fail(r, "this escape is unknown");
    r->at++;
    return true;
}

static bool string(struct reader *r)
{
    const uint8_t *from = r->at++;
    for (;;) {
        int c = peek(r);
        if (c < 0)
            return fail(r, "the string has no end");
        if (c < 0x20)
            return fail(r, "a control character in a string must be escaped");
        if (c == '"')
            break;
        if (c == '\\') {
            if (!escape(r))
                return false;
        } else if (c < 0x80) {
            r->at++;
        } else if (!utf8_tail(r)) {
            return false;
        }
    }
    r->at++;
    put(r, from, (size_t)(r->at - from));
    return true;
}

/* ---- structure ---- */

/* The name of an object's member and its colon. */
static bool member_name(struct reader *r)
{
    skip_space(r);
    if (peek(r) != '"')
        return fail(r, "a member must begin with its name in quotes");
    if (!string(r))
        return false;
    skip_space(r);
    if (peek(r) != ':')
        return fail(r, "a colon is missing after the name");
    r->at++;
    put_char(r, ':');
    if (r->pretty)
        put_char(r, ' ');
    return true;
}

/* Opens an array or object. *empty tells whether it was closed at once. */
static bool open_bracket(struct reader *r, bool *empty)
{
    bool is_object = *r->at == '{';
    put_char(r, *r->at++);
    if (r->depth == DEPTH_MAX)
        return fail(r, "the document is nested too deeply");
    skip_space(r);
    *empty = peek(r) == (is_object ? '}' : ']');
    if (*empty) {
        put_char(r, *r->at++);
        return true;
    }
    r->in_object[r->depth++] = is_object;
    new_line(r);
    return is_object ? member_name(r) : true;
}

/* Behind a value: closes what ends here, and steps over a comma. *done tells that the document's value is complete. */
static bool after_value(struct reader *r, bool *done)
{
    *done = false;
    while (r->depth > 0) {
        bool is_object = r->in_object[r->depth - 1];
        skip_space(r);
        int c = peek(r);
        if (c == ',') {
            r->at++;
            put_char(r, ',');
            new_line(r);
            return is_object ? member_name(r) : true;
        }
        if (c != (is_object ? '}' : ']'))
            return fail(r, is_object ? "a comma or } is missing" : "a comma or ] is missing");
        r->depth--;
        new_line(r);
        put_char(r, *r->at++);
    }
    *done = true;
    return true;
}

/* One scalar, or an opening bracket: then *opened is set. */
static bool value_start(struct reader *r, bool *opened)
{
    *opened = false;
    skip_space(r);
    int c = peek(r);
    if (c == '{' || c == '[') {
        bool empty;
        if (!open_bracket(r, &empty))
            return false;
        *opened = !empty;
        return true;
    }
    if (c == '"')
        return string(r);
    if (c == '-' || is_digit(c))
        return number(r);
    if (c == 't')
        return literal(r, "true");
    if (c == 'f')
        return literal(r, "false");
    if (c == 'n')
        return literal(r, "null");
    return fail(r, c < 0 ? "the document ends where a value must stand" : "this is no JSON value");
}

/* No recursion: the depth of a hostile document must not become the depth of our stack. */
static bool document(struct reader *r)
{
    for (bool done = false; !done;) {
        bool opened;
        if (!value_start(r, &opened))
            return false;
        if (!opened && !after_value(r, &done))
            return false;
    }
    skip_space(r);
    if (r->at < r->end)
        return fail(r, "there is more behind the document's end");
    put_char(r, '\n');
    return true;
}

static bool read_document(struct reader *r, const uint8_t *data, size_t length)
{
    r->start = r->at = data;
    r->end = data + length;
    r->depth = 0;
    return document(r);
}

/* Lines and columns count from 1; a column is a character, not a byte. */
static void report(const struct reader *r)
{
    size_t line = 1, column = 1;
    for (const uint8_t *p = r->start; p < r->at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if ((*p & 0xc0) != 0x80) {
            column++;
        }
    }
    char text[UNSIGNED_TEXT_BYTES];
    fputs("json: line ", stderr);
    fputs(unsigned_text(line, text), stderr);
    fputs(", column ", stderr);
    fputs(unsigned_text(column, text), stderr);
    fputs(": ", stderr);
    fputs(r->problem, stderr);
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    static struct reader reader;
    reader.pretty = argc == 2 && strcmp(argv[1], "--pretty") == 0;
    if (argc > 1 && !reader.pretty) {
        fputs("json: usage: json [--pretty]\n", stderr);
        return 2;
    }
    uint8_t *data;
    size_t length;
    enum read_all_status status = read_all_stdin(INPUT_BYTES_MAX, &data, &length);
    if (status != READ_ALL_OK) {
        fputs("json: ", stderr);
        fputs(read_all_message(status), stderr);
        fputc('\n', stderr);
        return 1;
    }
    if (!read_document(&reader, data, length)) {
        report(&reader);
        return 1;
    }
    reader.printing = true;
    read_document(&reader, data, length);
    free(data);
    return fflush(stdout) != 0;
}
