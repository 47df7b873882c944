/* The pod's log: a bounded queue before our stdout.
 *
 * The pipe belongs to the container's runtime, so it stays in blocking mode. At most ATOMIC bytes are written once poll
 * has said that there is room: a pipe with room has a page free, and then such a write never waits. So a log that nobody
 * reads holds up the command, as it would without us, but never the signals that we forward.
 *
 * Before we end, what was written last is given time to be read: containerd before 1.6.21 closes its end of the log when
 * it hears that the container has ended, whatever is left in it. Of what lies between our pipe and its log we only see
 * the pipe; behind it are a FIFO of 64 KiB and two buffers, which empty as fast as the pipe did.
 */

#include "launcher.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOG = STDOUT_FILENO, ATOMIC = 4096 };
enum { SETTLED_MS = 200, MOST_MS = 5000 };

static char queue[LOG_ROOM];
static size_t first, last;
static bool dead;
static size_t fresh;       /* bytes written since */
static int64_t busy_until; /* when ATOMIC bytes had been written for the last time */

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
    fresh += done > 0 ? (size_t)done : 0;
    if (fresh >= ATOMIC) {
        fresh = 0;
        busy_until = now_ms();
    }
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

static void rest_until(int64_t when)
{
    for (int64_t left = when - now_ms(); left > 0; left = when - now_ms())
        nanosleep(&(struct timespec){.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000}, NULL);
}

void log_settle(void)
{
    struct stat log;
    int left = 0;
    int64_t start = now_ms(), emptied = start;
    if (busy_until == 0 || fstat(LOG, &log) != 0 || !S_ISFIFO(log.st_mode))
        return;
    while (ioctl(LOG, FIONREAD, &left) == 0 && left > 0 && emptied < start + MOST_MS) {
        rest_until(emptied + 1);
        emptied = now_ms();
    }
    int64_t until = emptied + 2 * (emptied - start), least = busy_until + SETTLED_MS;
    rest_until(until < least ? least : until < start + MOST_MS ? until : start + MOST_MS);
}
