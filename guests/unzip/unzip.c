/* Reads a zip archive from standard input: lists it, or writes what its members hold. From the format's definition:
 * PKWARE, APPNOTE.TXT - .ZIP File Format Specification, 6.3; compression: RFC 1951.
 *
 * The whole directory is checked before the first byte of output: every member has to lie inside the file, no two may
 * overlap, the local headers have to agree with the directory, and the sizes have to stay below a bound. */
#include "complain.h"
#include "crc32.h"
#include "inflate.h"
#include "number.h"
#include "read_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_MAX = 256 << 20,
    OUTPUT_MAX_DEFAULT = 256 << 20,
    END_SIZE = 22,     /* the end record, without its comment */
    ENTRY_SIZE = 46,   /* an entry of the directory, without its name, extra fields and comment */
    LOCAL_SIZE = 30,   /* a local header, without its name and extra fields */
    LOCATOR_SIZE = 20, /* what a zip64 archive has before the end record */
    COMMENT_MAX = 65535,
    STORED = 0,
    DEFLATED = 8,
    FLAG_ENCRYPTED = 1 << 0,
    FLAG_DESCRIPTOR = 1 << 3,
    FLAG_PATCH = 1 << 5,
    FLAG_STRONG = 1 << 6,
    FLAG_MASKED = 1 << 13
};

enum { END = 0x06054B50, ENTRY = 0x02014B50, LOCAL = 0x04034B50, LOCATOR64 = 0x07064B50, DESCRIPTOR = 0x08074B50 };

enum action { WRITE_CONTENT, LIST, CHECKSUMS };

struct options {
    enum action action;
    const char *member; /* NULL: all of them */
    uint64_t output_max;
};

struct member {
    const uint8_t *name;
    uint16_t name_size;
    uint16_t method;
    uint16_t flags;
    uint32_t crc;
    uint32_t packed_size;
    uint32_t size;
    uint32_t start;      /* of the local header */
    size_t data;         /* start of the packed data */
    size_t end;          /* of the packed data, and of the descriptor if there is one */
};

struct archive {
    const uint8_t *data;
    size_t size;
    size_t directory;    /* where it starts */
    size_t directory_end;
    struct member *members;
    size_t count;
};

/* What is wrong, and with which member (or NULL). */
struct problem {
    const char *text;
    const struct member *member;
};

static const struct problem fine = {NULL, NULL};

static struct problem wrong(const char *text, const struct member *member)
{
    return (struct problem){text, member};
}

static uint16_t u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t u32(const uint8_t *bytes)
{
    return u16(bytes) | (uint32_t)u16(bytes + 2) << 16;
}

/* ---- arguments ---- */

static int usage(const char *problem, const char *what)
{
    complain(2, "unzip", problem, what);
    return complain(2, "usage", "unzip [--list | --crc] [--member NAME] [--max-output BYTES]", NULL);
}

static int parse_arguments(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0)
            options->action = LIST;
        else if (strcmp(argv[i], "--crc") == 0)
            options->action = CHECKSUMS;
        else if (strcmp(argv[i], "--member") == 0 && i + 1 < argc)
            options->member = argv[++i];
        else if (strcmp(argv[i], "--max-output") == 0 && i + 1 < argc) {
            if (!parse_unsigned(argv[++i], UINT64_MAX / 2, &options->output_max))
                return usage("no good value for --max-output", argv[i]);
        } else
            return usage("unknown argument, or one without its value", argv[i]);
    }
    return 0;
}

/* ---- reading the directory ---- */

/* The end record is the last one whose comment ends with the file. */
static struct problem find_end(const struct archive *a, size_t *end)
{
    for (size_t comment = 0; comment <= COMMENT_MAX && comment + END_SIZE <= a->size; comment++) {
        size_t at = a->size - END_SIZE - comment;
        if (u32(a->data + at) == END && u16(a->data + at + 20) == comment) {
            *end = at;
            return fine;
        }
    }
    return wrong("the input is no zip file, or its end is missing", NULL);
}

static struct problem read_end(struct archive *a)
{
    size_t end;
    struct problem problem = find_end(a, &end);
    if (problem.text != NULL)
        return problem;
    const uint8_t *record = a->data + end;
    uint32_t size = u32(record + 12), offset = u32(record + 16);
    a->count = u16(record + 10);
    bool locator = end >= LOCATOR_SIZE && u32(record - LOCATOR_SIZE) == LOCATOR64;
    if (locator || a->count == 0xFFFF || size == 0xFFFFFFFF || offset == 0xFFFFFFFF)
        return wrong("zip64 archives are not supported", NULL);
    if (u16(record + 4) != 0 || u16(record + 6) != 0 || u16(record + 8) != a->count)
        return wrong("archives in several parts are not supported", NULL);
    if ((uint64_t)offset + size != end)
        return wrong("the directory is not where the end record says", NULL);
    a->directory = offset;
    a->directory_end = end;
    return fine;
}

/* What can be said of a member without its local header. */
static struct problem check_entry(const struct archive *a, const struct member *m)
{
    if (m->flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED))
        return wrong("encrypted members are not supported", m);
    if (m->flags & FLAG_PATCH)
        return wrong("patched data are not supported", m);
    if (m->packed_size == 0xFFFFFFFF || m->size == 0xFFFFFFFF || m->start == 0xFFFFFFFF)
        return wrong("zip64 archives are not supported", m);
    if (m->method != STORED && m->method != DEFLATED)
        return wrong("only the methods stored and deflate are supported", m);
    if (m->method == STORED && m->packed_size != m->size)
        return wrong("a stored member has two sizes", m);
    if (m->start > a->directory || a->directory - m->start < LOCAL_SIZE)
        return wrong("a member lies outside the archive", m);
    return fine;
}

static struct problem read_entry(const struct archive *a, size_t *at, struct member *m)
{
    const uint8_t *entry = a->data + *at;
    size_t left = a->directory_end - *at;
    if (left < ENTRY_SIZE || u32(entry) != ENTRY)
        return wrong("the directory is broken", NULL);
    size_t whole = (size_t)ENTRY_SIZE + u16(entry + 28) + u16(entry + 30) + u16(entry + 32);
    if (left < whole)
        return wrong("the directory is broken", NULL);
    *m = (struct member){.flags = u16(entry + 8), .method = u16(entry + 10), .crc = u32(entry + 16),
                         .packed_size = u32(entry + 20), .size = u32(entry + 24), .name_size = u16(entry + 28),
                         .start = u32(entry + 42), .name = entry + ENTRY_SIZE};
    if (u16(entry + 34) != 0)
        return wrong("archives in several parts are not supported", m);
    *at += whole;
    return check_entry(a, m);
}

/* ---- checking the members ---- */

/* With a descriptor behind the data, the fields of the local header may be zero instead. */
static bool local_value_agrees(const struct member *m, uint32_t local, uint32_t central)
{
    return local == central || (local == 0 && (m->flags & FLAG_DESCRIPTOR));
}

static struct problem check_local_header(const struct archive *a, struct member *m)
{
    const uint8_t *local = a->data + m->start;
    if (u32(local) != LOCAL)
        return wrong("a member has no local header", m);
    uint64_t data = (uint64_t)m->start + LOCAL_SIZE + u16(local + 26) + u16(local + 28);
    if (data + m->packed_size > a->directory)
        return wrong("a member lies outside the archive", m);
    m->data = (size_t)data;
    m->end = m->data + m->packed_size;
    bool same_name = u16(local + 26) == m->name_size && memcmp(local + LOCAL_SIZE, m->name, m->name_size) == 0;
    const uint16_t meaningful = FLAG_ENCRYPTED | FLAG_DESCRIPTOR | FLAG_PATCH | FLAG_STRONG | FLAG_MASKED;
    if (!same_name || u16(local + 8) != m->method || ((u16(local + 6) ^ m->flags) & meaningful) != 0 ||
        !local_value_agrees(m, u32(local + 14), m->crc) || !local_value_agrees(m, u32(local + 18), m->packed_size) ||
        !local_value_agrees(m, u32(local + 22), m->size))
        return wrong("a local header contradicts the directory", m);
    return fine;
}

/* The descriptor's signature is optional. */
static struct problem check_descriptor(const struct archive *a, struct member *m)
{
    if ((m->flags & FLAG_DESCRIPTOR) == 0)
        return fine;
    for (size_t signature = 0; signature <= 4; signature += 4) {
        const uint8_t *values = a->data + m->end + signature;
        if (a->directory - m->end < signature + 12 || (signature > 0 && u32(values - 4) != DESCRIPTOR))
            continue;
        if (u32(values) == m->crc && u32(values + 4) == m->packed_size && u32(values + 8) == m->size) {
            m->end += signature + 12;
            return fine;
        }
    }
    return wrong("a data descriptor contradicts the directory", m);
}

/* Lets a member sink to its place in a heap with the last start at its root. */
static void sift_down(const struct member **heap, size_t count, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1]->start > heap[child]->start)
            child++;
        if (heap[at]->start >= heap[child]->start)
            return;
        const struct member *moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

/* Heapsort: no order of the members makes it slow, and the library's qsort would be a third of the module. */
static void sort_by_start(const struct member **members, size_t count)
{
    for (size_t at = count / 2; at-- > 0;)
        sift_down(members, count, at);
    for (size_t last = count; last-- > 1;) {
        const struct member *greatest = members[0];
        members[0] = members[last];
        members[last] = greatest;
        sift_down(members, last, 0);
    }
}

/* Overlapping members are how a small archive says that it holds petabytes. */
static struct problem check_overlap(const struct archive *a)
{
    struct problem problem = fine;
    const struct member **sorted = malloc((a->count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return wrong("out of memory", NULL);
    for (size_t i = 0; i < a->count; i++)
        sorted[i] = &a->members[i];
    sort_by_start(sorted, a->count);
    for (size_t i = 1; i < a->count && problem.text == NULL; i++)
        if (sorted[i]->start < sorted[i - 1]->end)
            problem = wrong("two members overlap", sorted[i]);
    free(sorted);
    return problem;
}

static struct problem read_archive(struct archive *a)
{
    struct problem problem = read_end(a);
    if (problem.text != NULL)
        return problem;
    a->members = calloc(a->count + 1, sizeof *a->members);
    if (a->members == NULL)
        return wrong("out of memory", NULL);
    size_t at = a->directory;
    for (size_t i = 0; i < a->count && problem.text == NULL; i++) {
        problem = read_entry(a, &at, &a->members[i]);
        if (problem.text == NULL)
            problem = check_local_header(a, &a->members[i]);
        if (problem.text == NULL)
            problem = check_descriptor(a, &a->members[i]);
    }
    if (problem.text == NULL && at != a->directory_end)
        return wrong("the directory is longer than its entries", NULL);
    return problem.text == NULL ? check_overlap(a) : problem;
}

/* ---- what is asked for ---- */

static bool is_chosen(const struct options *options, const struct member *m)
{
    return options->member == NULL ||
           (strlen(options->member) == m->name_size && memcmp(options->member, m->name, m->name_size) == 0);
}

/* Checks what the chosen members would come to, by the directory; no member can later exceed its share. */
static struct problem check_choice(const struct archive *a, const struct options *options)
{
    uint64_t total = 0;
    size_t chosen = 0;
    for (size_t i = 0; i < a->count; i++)
        if (is_chosen(options, &a->members[i])) {
            total += a->members[i].size;
            chosen++;
        }
    if (options->member != NULL && chosen == 0)
        return wrong("no member has the name that --member gives", NULL);
    if (options->member != NULL && chosen > 1)
        return wrong("several members have the name that --member gives", NULL);
    if (options->action != LIST && total > options->output_max)
        return wrong("the members are larger than --max-output allows", NULL);
    return fine;
}

/* ---- output ---- */

/* A name as one line: what could drive a terminal is written as \xNN. */
static void print_name(FILE *file, const struct member *m)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < m->name_size; i++) {
        uint8_t byte = m->name[i];
        if (byte >= 0x20 && byte != 0x7F && byte != '\\') {
            putc(byte, file);
        } else {
            fputs("\\x", file);
            putc(digits[byte >> 4], file);
            putc(digits[byte & 15], file);
        }
    }
}

static void print_crc(uint32_t crc)
{
    static const char digits[] = "0123456789abcdef";
    for (int shift = 28; shift >= 0; shift -= 4)
        putchar(digits[crc >> shift & 15]);
    putchar(' ');
}

static void print_number(uint64_t number)
{
    char text[UNSIGNED_TEXT_BYTES];
    fputs(unsigned_text(number, text), stdout);
    putchar(' ');
}

/* A line of --list: size, packed size, method, CRC and name. */
static void print_entry(const struct member *m)
{
    print_number(m->size);
    print_number(m->packed_size);
    fputs(m->method == STORED ? "stored " : "deflate ", stdout);
    print_crc(m->crc);
    print_name(stdout, m);
    putchar('\n');
}

/* A line of --crc: CRC, size and name. */
static void print_checksum(const struct member *m)
{
    print_crc(m->crc);
    print_number(m->size);
    print_name(stdout, m);
    putchar('\n');
}

struct output {
    bool write;
    uint32_t crc;
};

static bool take_bytes(void *context, const uint8_t *bytes, size_t size)
{
    struct output *output = context;
    output->crc = crc32_update(output->crc, bytes, size);
    return !output->write || fwrite(bytes, 1, size, stdout) == size;
}

static struct problem unpack(const struct archive *a, const struct member *m, struct output *output)
{
    const uint8_t *data = a->data + m->data;
    if (m->method == STORED)
        return take_bytes(output, data, m->size) ? fine : wrong("cannot write the output", NULL);
    struct inflate_source source = {data, data + m->packed_size, NULL, NULL};
    struct inflate_totals totals;
    enum inflate_status status = inflate(&source, (struct inflate_sink){take_bytes, output}, m->size, &totals);
    if (status == INFLATE_REFUSED)
        return wrong("cannot write the output", NULL);
    if (status != INFLATE_OK)
        return wrong(inflate_message(status), m);
    if (totals.output != m->size || totals.input != m->packed_size)
        return wrong("a member has another size than the directory says", m);
    return fine;
}

static struct problem extract(const struct archive *a, const struct member *m, enum action action)
{
    struct output output = {action == WRITE_CONTENT, 0};
    struct problem problem = unpack(a, m, &output);
    if (problem.text != NULL)
        return problem;
    if (output.crc != m->crc)
        return wrong("the CRC of a member is wrong", m);
    if (action == CHECKSUMS)
        print_checksum(m);
    return fine;
}

static struct problem answer(const struct archive *a, const struct options *options)
{
    struct problem problem = check_choice(a, options);
    for (size_t i = 0; i < a->count && problem.text == NULL; i++) {
        const struct member *m = &a->members[i];
        if (!is_chosen(options, m))
            continue;
        if (options->action == LIST)
            print_entry(m);
        else
            problem = extract(a, m, options->action);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return wrong("cannot write the output", NULL);
    return problem;
}

static int report(struct problem problem)
{
    fputs("unzip: ", stderr);
    fputs(problem.text, stderr);
    if (problem.member != NULL) {
        fputs(": ", stderr);
        print_name(stderr, problem.member);
    }
    fputs("\n", stderr);
    return 1;
}

int main(int argc, char **argv)
{
    struct options options = {WRITE_CONTENT, NULL, OUTPUT_MAX_DEFAULT};
    int bad = parse_arguments(argc, argv, &options);
    if (bad)
        return bad;
    uint8_t *data;
    struct archive archive = {0};
    enum read_all_status status = read_all_stdin(INPUT_MAX, &data, &archive.size);
    if (status != READ_ALL_OK)
        return complain(1, "unzip", read_all_message(status), NULL);
    archive.data = data;
    struct problem problem = read_archive(&archive);
    if (problem.text == NULL)
        problem = answer(&archive, &options);
    int exit_code = problem.text == NULL ? 0 : report(problem);
    free(archive.members);
    free(data);
    return exit_code;
}
