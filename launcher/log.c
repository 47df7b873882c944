/* The pod's log: a bounded queue before our stdout.
 *
 * The pipe belongs to the container's runtime, so it stays in blocking mode. At most ATOMIC bytes are written once poll
 * has said that there is room: a pipe with room has a page free, and then such a write never waits. So a log that nobody
 * reads holds up the command, as it would without us, but never the signals that we forward.
 */

#include "launcher.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { LOG = STDOUT_FILENO, ATOMIC = 4096 };

static char queue[LOG_ROOM];
static size_t first, last;
static bool dead;

bool log_waits(void)
{
    return first < last;
}

static bool writable(int timeout)
{
    struct pollfd polled = {.fd = LOG, .events = POLLOUT};
    return poll(&polled, 1, timeout) > 0;
}

static void write_some(void)
{
    size_t size = last - first < ATOMIC ? last - first : ATOMIC;
    /* Whole lines where that can be: containerd rotates the log wherever one of its reads ended. */
    const char *newline = memrchr(queue + first, '\n', size);
    if (newline)
        size = (size_t)(newline + 1 - (queue + first));
    ssize_t done = write(LOG, queue + first, size);
    if (done < 0 && errno != EAGAIN && errno != EINTR) {
        dead = true; /* nobody will ever read it: the log ends here, and the task does not */
        first = last;
    }
    first += done > 0 ? (size_t)done : 0;
    if (first == last)
        first = last = 0;
}

void log_push(void)
{
    while (log_waits() && writable(0))
        write_some();
}

void log_drain(void)
{
    while (log_waits())
        if (writable(-1))
            write_some();
}

void log_put(const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0 && !dead) {
        if (last == LOG_ROOM)
            log_drain();
        size_t room = LOG_ROOM - last, part = size < room ? size : room;
        memcpy(queue + last, bytes, part);
        last += part;
        bytes += part;
        size -= part;
    }
}
