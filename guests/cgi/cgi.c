/* A CGI guest: answers with the request's own CGI variables. RFC 3875, The Common Gateway Interface 1.1, sections 4 and 6.
 * The query string asks for other answers: status=404, redirect=/x, bad=1 (no valid header), empty=1 (no answer at all). */
#include "../common/environment.h"
#include "../common/number.h"
#include "../common/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RFC 3875, section 4.1, and HTTPS, by which servers tell of TLS; beside these come the HTTP_* variables of section
 * 4.1.18. */
static const char *const VARIABLES[] = {
    "AUTH_TYPE",       "CONTENT_LENGTH", "CONTENT_TYPE", "GATEWAY_INTERFACE", "HTTPS",        "PATH_INFO",
    "PATH_TRANSLATED", "QUERY_STRING",   "REMOTE_ADDR",  "REMOTE_HOST",       "REMOTE_IDENT", "REMOTE_USER",
    "REQUEST_METHOD",  "SCRIPT_NAME",    "SERVER_NAME",  "SERVER_PORT",       "SERVER_PROTOCOL", "SERVER_SOFTWARE",
};

static bool is_cgi_variable(const char *entry)
{
    const char *equals = strchr(entry, '=');
    if (equals == NULL)
        return false;
    if (strncmp(entry, "HTTP_", 5) == 0)
        return true;
    size_t length = (size_t)(equals - entry);
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++)
        if (strlen(VARIABLES[i]) == length && memcmp(VARIABLES[i], entry, length) == 0)
            return true;
    return false;
}

static void print_variables(void)
{
    size_t count;
    char **entries = sorted_environment(&count);
    for (size_t i = 0; i < count; i++)
        if (is_cgi_variable(entries[i]))
            puts(entries[i]);
}

/* Copies the value of a name in "a=b&c=d" into value, cut to its size; false if the name is not there.
 * Percent signs stay as they are: the values asked for here need none. */
static bool query_value(const char *query, const char *name, char *value, size_t size)
{
    size_t name_length = strlen(name);
    while (query != NULL && *query != 0) {
        size_t length = strcspn(query, "&");
        if (length > name_length && memcmp(query, name, name_length) == 0 && query[name_length] == '=') {
            size_t take = length - name_length - 1;
            if (take >= size)
                take = size - 1;
            memcpy(value, query + name_length + 1, take);
            value[take] = 0;
            return true;
        }
        query += length;
        if (*query == '&')
            query++;
    }
    return false;
}

static char chunk[64 * 1024];

static bool print_body_digest(void)
{
    struct sha256 hash;
    uint64_t length = 0;
    sha256_start(&hash);
    for (;;) {
        ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got == 0)
            break;
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return false;
        sha256_add(&hash, chunk, (size_t)got);
        length += (uint64_t)got;
    }
    uint8_t digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1], digits[UNSIGNED_TEXT_BYTES];
    sha256_finish(&hash, digest);
    sha256_hex(digest, hex);
    fputs("body-length: ", stdout);
    puts(unsigned_text(length, digits));
    fputs("body-sha256: ", stdout);
    puts(hex);
    return true;
}

static const char *reason(uint64_t status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Other";
    }
}

/* The status asked for, 200 without one; a status that HTTP does not know is an error of the request. */
static uint64_t wanted_status(const char *query)
{
    char text[8];
    uint64_t status;
    if (!query_value(query, "status", text, sizeof text))
        return 200;
    return parse_unsigned(text, 599, &status) && status >= 200 ? status : 400;
}

static void print_header(uint64_t status)
{
    char digits[UNSIGNED_TEXT_BYTES];
    fputs("Status: ", stdout);
    fputs(unsigned_text(status, digits), stdout);
    putchar(' ');
    fputs(reason(status), stdout);
    fputs("\nContent-Type: text/plain\nX-Remuda-Guest: cgi\n\n", stdout);
}

int main(void)
{
    const char *query = getenv("QUERY_STRING");
    char value[1024];
    if (query_value(query, "empty", value, sizeof value))
        return 0;
    if (query_value(query, "bad", value, sizeof value)) {
        fputs("this line has no colon\n\nbody\n", stdout);
        return 0;
    }
    if (query_value(query, "redirect", value, sizeof value)) {
        fputs("Location: ", stdout);
        puts(value);
        putchar('\n');
        return 0;
    }
    print_header(wanted_status(query));
    print_variables();
    if (!print_body_digest()) {
        perror("cgi: cannot read the body");
        return 1;
    }
    return fflush(stdout) != 0;
}
