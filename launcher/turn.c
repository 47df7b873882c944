/* An executor's turn in a pod that it shares with its taskmaster: docs/decisions/0013-pod.md says how they speak.
 *
 * The control directory holds two FIFOs. `go` brings one byte at a time from the taskmaster, which holds it open for
 * writing as long as it lives; `end` takes what we tell. Both were there before we started, or the taskmaster has gone.
 */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int told = -1;

static int open_fifo(const char *directory, const char *name, int flags)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return -1;
    return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

/* What it says next, or GONE. */
enum order next_order(int go)
{
    char said;
    ssize_t found;
    while ((found = read(go, &said, 1)) < 0 && errno == EINTR)
        ;
    if (found < 0 && errno == EAGAIN)
        return NOTHING;
    if (found < 1)
        return GONE;
    return said == START || said == STOP || said == NEVER ? (enum order)said : NOTHING;
}

void turn_put(const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0 && told >= 0) {
        ssize_t done = write(told, bytes, size);
        if (done < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = told, .events = POLLOUT}, 1, -1);
        } else if (done < 0 && errno != EINTR) {
            close(told); /* nobody reads it any more */
            told = -1;
        } else if (done > 0) {
            bytes += done;
            size -= (size_t)done;
        }
    }
}

int await_turn(const char *directory, int signals, int *go)
{
    /* In this order: a taskmaster that is there when `end` is opened held `go` when that was, and its death hangs up. */
    *go = open_fifo(directory, "go", O_RDONLY);
    told = *go < 0 ? -1 : open_fifo(directory, "end", O_WRONLY);
    if (told < 0) {
        fprintf(stderr, "launcher: there is no taskmaster in %s: %s\n", directory, strerror(errno));
        return FAILED;
    }
    turn_put("H\n", 2);
    while (true) {
        struct pollfd polled[] = {{.fd = *go, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        struct signalfd_siginfo signal;
        poll(polled, 2, -1);
        if (polled[1].revents && read(signals, &signal, sizeof signal) == (ssize_t)sizeof signal &&
            (signal.ssi_signo == SIGTERM || signal.ssi_signo == SIGINT))
            return SIGNALLED + (int)signal.ssi_signo;
        switch (polled[0].revents ? next_order(*go) : NOTHING) {
        case START:
            return 0;
        case STOP:
        case NEVER:
            return NOT_NEEDED;
        case GONE:
            fprintf(stderr, "launcher: the taskmaster ended before the turn of this executor\n");
            return FAILED;
        case NOTHING:
            break;
        }
    }
}
