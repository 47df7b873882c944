/* One stream of the command: to the log in frames, to the task's file as it is, to the excerpt at both ends.
 *
 * A line of the log is a tag, a space, data and a newline. The tag is O or E (stdout, stderr) when the newline is the
 * stream's own, and o or e when it only ends the frame: a piece of PIECE bytes, one that no newline followed for
 * PATIENCE_MS, or the stream's end. Data is at most PIECE bytes, whatever they are, and never holds a newline. The last
 * line has the tag R: what is kept of both streams, in JSON.
 */

#include "launcher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void stream_open(struct stream *stream, size_t log_bytes, struct end *end)
{
    stream->head_room = log_bytes / 2;
    stream->tail_room = log_bytes - log_bytes / 2;
    stream->head = malloc(stream->head_room + 1);
    stream->tail = malloc(stream->tail_room + 1);
    if (!stream->head || !stream->tail)
        tell(end->fault, "there is no memory for its %s", stream->name);
}

static void keep(struct stream *stream, const char *data, size_t size)
{
    if (stream->size < stream->head_room) {
        size_t room = stream->head_room - (size_t)stream->size, part = size < room ? size : room;
        memcpy(stream->head + stream->size, data, part);
        stream->size += part;
        data += part;
        size -= part;
    }
    uint64_t after = stream->size - stream->head_room;
    stream->size += size;
    while (size > 0 && stream->tail_room > 0) {
        size_t at = (size_t)(after % stream->tail_room), room = stream->tail_room - at, part = size < room ? size : room;
        memcpy(stream->tail + at, data, part);
        after += part;
        data += part;
        size -= part;
    }
}

static void put_frame(struct stream *stream, char tag)
{
    const char before[2] = {tag, ' '};
    log_put(before, 2);
    log_put(stream->hold, stream->held);
    log_put("\n", 1);
    stream->held = 0;
    stream->since = 0;
}

void stream_flush(struct stream *stream)
{
    if (stream->held > 0)
        put_frame(stream, stream->piece);
}

static void frame(struct stream *stream, const char *data, size_t size)
{
    while (size > 0) {
        size_t room = PIECE - stream->held, part = size < room ? size : room;
        const char *newline = memchr(data, '\n', part);
        if (newline)
            part = (size_t)(newline - data);
        memcpy(stream->hold + stream->held, data, part);
        stream->held += part;
        data += part;
        size -= part;
        if (newline) {
            put_frame(stream, stream->line);
            data++;
            size--;
        } else if (stream->held == PIECE)
            put_frame(stream, stream->piece);
    }
    if (stream->held > 0 && stream->since == 0)
        stream->since = now_ms();
}

static bool write_file(int file, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(file, data, size);
        if (done < 0)
            return false;
        data += done;
        size -= (size_t)done;
    }
    return true;
}

static void finish(struct stream *stream)
{
    stream_flush(stream);
    close(stream->from);
    stream->from = -1;
}

size_t stream_move(struct stream *stream, size_t limit, struct end *end)
{
    static char chunk[CHUNK];
    ssize_t found = read(stream->from, chunk, limit < CHUNK ? limit : CHUNK);
    if (found < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (found <= 0) {
        finish(stream);
        return 0;
    }
    keep(stream, chunk, (size_t)found);
    frame(stream, chunk, (size_t)found);
    if (stream->to >= 0 && !write_file(stream->to, chunk, (size_t)found)) {
        /* The command hears of it as a broken pipe, as it would have heard of the full disk by itself. */
        tell(end->fault, "its %s could not be written to %s: %s", stream->name, shown(stream->path), strerror(errno));
        finish(stream);
        return 0;
    }
    return (size_t)found;
}

void stream_drain(struct stream *stream, struct end *end)
{
    int left = 0;
    if (stream->from >= 0 && ioctl(stream->from, FIONREAD, &left) == 0)
        for (size_t moved = 1; left > 0 && moved > 0; left -= (int)moved) {
            moved = stream_move(stream, (size_t)left, end);
            log_drain();
        }
    stream_flush(stream);
}

/* Base64 of what is put in parts. */
struct base64 {
    unsigned bits;
    size_t count; /* of bytes in bits */
};

static void put_digits(put *out, unsigned bits, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char four[4] = "====";
    for (size_t one = 0; one <= bytes; one++)
        four[one] = digits[bits >> (18 - 6 * one) & 63];
    out(four, sizeof four);
}

static void base64_put(put *out, struct base64 *coder, const char *data, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        coder->bits |= (unsigned)(unsigned char)data[at] << (16 - 8 * coder->count);
        if (++coder->count == 3) {
            put_digits(out, coder->bits, 3);
            *coder = (struct base64){0};
        }
    }
}

static void base64_end(put *out, struct base64 *coder)
{
    if (coder->count > 0)
        put_digits(out, coder->bits, coder->count);
    *coder = (struct base64){0};
}

static void put_text(put *out, const char *text)
{
    out(text, strlen(text));
}

static void put_stream(put *out, const struct stream *stream)
{
    struct base64 coder = {0};
    bool whole = stream->size <= stream->head_room + stream->tail_room;
    size_t head = stream->size < stream->head_room ? (size_t)stream->size : stream->head_room;
    uint64_t after = stream->size - head;
    char start[64];
    snprintf(start, sizeof start, "\"%s\":{\"size\":%llu,\"head\":\"", stream->name, (unsigned long long)stream->size);
    put_text(out, start);
    base64_put(out, &coder, stream->head, head);
    if (whole)
        base64_put(out, &coder, stream->tail, (size_t)after);
    base64_end(out, &coder);
    put_text(out, "\",\"tail\":\"");
    if (!whole && stream->tail_room > 0) {
        size_t oldest = (size_t)(after % stream->tail_room);
        base64_put(out, &coder, stream->tail + oldest, stream->tail_room - oldest);
        base64_put(out, &coder, stream->tail, oldest);
        base64_end(out, &coder);
    }
    put_text(out, "\"}");
}

void put_record(put *out, const struct stream streams[2])
{
    put_text(out, "{");
    put_stream(out, &streams[0]);
    put_text(out, ",");
    put_stream(out, &streams[1]);
    put_text(out, "}");
}

void log_record(const struct stream streams[2])
{
    put_text(log_put, "R ");
    put_record(log_put, streams);
    put_text(log_put, "\n");
}
