#include "connection.h"

#include <cerrno>
#include <unistd.h>

namespace {

// The descriptor of the socket to the host.
constexpr int SOCKET = 0;

constexpr size_t LENGTH_BYTES = sizeof(uint32_t);

// The bytes that the buffers have at least: most frames fit into them.
constexpr size_t BUFFER_BYTES = 64 << 10;

// What has come but was not asked for yet is from `next` to `end`.
std::vector<uint8_t> input(BUFFER_BYTES);
size_t next = 0;
size_t end = 0;

Writer report;

// Makes sure that so many bytes have come.
void fill(size_t bytes) {
    if (input.size() - next < bytes) {
        memmove(input.data(), input.data() + next, end - next);
        end -= next;
        next = 0;
        if (input.size() < bytes) {
            input.resize(bytes);
        }
    }
    while (end - next < bytes) {
        ssize_t got = read(SOCKET, input.data() + end, input.size() - end);
        if (got > 0) {
            end += got;
        } else if (got == 0) {
            _exit(0);
        } else if (errno != EINTR) {
            _exit(1);
        }
    }
}

} // namespace

const uint8_t* Reader::takeBytes(size_t bytes) {
    if (left() < bytes) {
        _exit(1);
    }
    const uint8_t* taken = next;
    next += bytes;
    return taken;
}

std::string Reader::takeText() {
    size_t bytes = takeU32();
    return std::string(reinterpret_cast<const char*>(takeBytes(bytes)), bytes);
}

Order receive() {
    fill(LENGTH_BYTES);
    uint32_t bytes;
    memcpy(&bytes, input.data() + next, LENGTH_BYTES);
    fill(LENGTH_BYTES + bytes);
    const uint8_t* from = input.data() + next + LENGTH_BYTES;
    next += LENGTH_BYTES + bytes;
    Reader frame(from, from + bytes);
    uint8_t kind = frame.takeU8();
    return Order{kind, frame};
}

Writer& begin(uint8_t kind) {
    report.frame.assign(LENGTH_BYTES, 0);
    report.putU8(kind);
    return report;
}

void send() {
    std::vector<uint8_t>& frame = report.frame;
    uint32_t bytes = frame.size() - LENGTH_BYTES;
    memcpy(frame.data(), &bytes, LENGTH_BYTES);
    for (size_t sent = 0; sent < frame.size();) {
        ssize_t wrote = write(SOCKET, frame.data() + sent, frame.size() - sent);
        if (wrote >= 0) {
            sent += wrote;
        } else if (errno != EINTR) {
            _exit(1);
        }
    }
    if (frame.capacity() > BUFFER_BYTES) {
        frame = std::vector<uint8_t>();
    }
}

void shrink() {
    if (next == end && input.size() > BUFFER_BYTES) {
        input = std::vector<uint8_t>(BUFFER_BYTES);
        next = end = 0;
    }
}
