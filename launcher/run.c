/* The command's life: streams carried, signals passed on, orphans taken in, until it ends. */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_MS = 10000 }; /* between SIGTERM and SIGKILL, as the pod of an executor has it */
enum { REST_MS = 2000 };   /* for what is killed to be gone */

struct life {
    pid_t command;
    bool ended;
    int signals;
    int go;          /* what the taskmaster says, or -1 */
    int64_t kill_at; /* when a command that was told to end is killed, in milliseconds of now_ms, or 0 */
    int turn;        /* the stream that is asked first, so that neither keeps the other waiting */
    struct stream *streams;
    struct end *end;
};

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Every signal is taken from a file, but those that tell of a fault of our own. */
static int take_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t taken;
    memset(&taken, 0xff, sizeof taken); /* sigfillset leaves out those that a libc keeps for its threads */
    for (size_t one = 0; one < sizeof own / sizeof *own; one++)
        sigdelset(&taken, own[one]);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would keep exit codes from us */
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_SETMASK, &taken, NULL);
    return signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void reap(struct life *life)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == life->command) {
            life->ended = true;
            life->end->finish = clock_ms();
            life->end->code = WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
        }
}

static void hear_signals(struct life *life)
{
    struct signalfd_siginfo told;
    while (read(life->signals, &told, sizeof told) == (ssize_t)sizeof told) {
        int number = (int)told.ssi_signo;
        if (number == SIGCHLD)
            reap(life);
        else if (number != SIGPIPE && !life->ended) {
            if (number == SIGTERM && told.ssi_pid == 0 && told.ssi_code >= 0) /* from outside of the container */
                life->end->asked = number;
            kill(-life->command, number);
        }
    }
}

/* The taskmaster has changed its mind, or is no more; then nothing may go on that it began. */
static void hear_orders(struct life *life)
{
    switch (next_order(life->go)) {
    case STOP:
        kill(-life->command, SIGTERM);
        life->kill_at = now_ms() + GRACE_MS;
        break;
    case GONE:
        kill(-life->command, SIGKILL);
        _exit(FAILED);
    default:
        break;
    }
}

static void kill_late(struct life *life)
{
    if (life->kill_at && now_ms() >= life->kill_at && !life->ended) {
        life->kill_at = 0;
        kill(-life->command, SIGKILL);
    }
}

/* Milliseconds until a piece without a newline has waited long enough, or a command for its end; -1: neither waits. */
static int patience(const struct life *life, bool full)
{
    const struct stream *streams = life->streams;
    int64_t least = -1, now = now_ms();
    for (int one = 0; one < 3; one++) {
        bool waits = one == 2 ? life->kill_at > 0 : streams[one].held > 0 && !full;
        int64_t left = (one == 2 ? life->kill_at : streams[one].since + PATIENCE_MS) - now;
        if (waits && (least < 0 || left < least))
            least = left > 0 ? left : 0;
    }
    return (int)least;
}

static void flush_late(struct stream *streams)
{
    for (int one = 0; one < 2; one++)
        if (streams[one].held > 0 && now_ms() - streams[one].since >= PATIENCE_MS)
            stream_flush(&streams[one]);
}

static void carry(struct life *life)
{
    struct stream *streams = life->streams;
    while (!life->ended) {
        bool full = log_waits(); /* nothing more is read before the log has taken what there is */
        struct pollfd polled[] = {
            {.fd = life->signals, .events = POLLIN},
            {.fd = full ? STDOUT_FILENO : streams[0].from, .events = full ? POLLOUT : POLLIN},
            {.fd = full ? -1 : streams[1].from, .events = POLLIN},
            {.fd = life->go, .events = POLLIN},
        };
        poll(polled, 4, patience(life, full));
        if (polled[0].revents)
            hear_signals(life);
        if (polled[3].revents && !life->ended)
            hear_orders(life);
        kill_late(life);
        for (int count = 0; count < 2 && !full; count++) {
            int one = (life->turn + count) % 2;
            if (polled[1 + one].revents && !log_waits()) {
                stream_move(&streams[one], CHUNK, life->end);
                log_push();
            }
        }
        life->turn = !life->turn;
        if (!log_waits())
            flush_late(streams);
        log_push();
    }
}

/* What the command left behind must not go on once its end is told: it could tell another end, or write into files
 * that are being delivered. As process 1 we know that all others are the command's. */
static void kill_rest(void)
{
    if (getpid() != 1)
        return;
    kill(-1, SIGKILL);
    for (int64_t until = now_ms() + REST_MS; waitpid(-1, NULL, WNOHANG) >= 0 && now_ms() < until;)
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static void measure(struct end *end)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    end->peak_memory_bytes = (int64_t)used.ru_maxrss * 1024;
    end->user_cpu_ms = (int64_t)used.ru_utime.tv_sec * 1000 + used.ru_utime.tv_usec / 1000;
    end->system_cpu_ms = (int64_t)used.ru_stime.tv_sec * 1000 + used.ru_stime.tv_usec / 1000;
}

/* The command, from its start to its end; streams[] have what they go to, and are given what they come from. */
static void live(const struct options *options, int input, int signals, int go, struct stream streams[2], struct end *end)
{
    int64_t killed = count_oom_kills();
    int pipes[2][2];
    struct life life = {.streams = streams, .end = end, .signals = signals, .go = go};
    if (signals < 0 || pipe2(pipes[0], O_CLOEXEC) != 0 || pipe2(pipes[1], O_CLOEXEC) != 0) {
        tell(end->fault, "no pipe can be made: %s", strerror(errno));
        return;
    }
    life.command = start_command(options->command, (int[]){input, pipes[0][1], pipes[1][1]}, end);
    for (int one = 0; one < 2; one++) {
        streams[one].from = pipes[one][0];
        close(pipes[one][1]);
    }
    close(input);
    if (life.command <= 0)
        return;
    carry(&life);
    kill_rest();
    /* What the command itself wrote is in the pipes by now; a daemon that it left may not keep us. */
    stream_drain(&streams[0], end);
    stream_drain(&streams[1], end);
    end->out_of_memory = end->code != 0 && killed >= 0 && count_oom_kills() > killed;
}

int run(const struct options *options)
{
    struct end end = {.code = NOT_EXECUTABLE};
    static struct stream streams[2] = {
        {.name = "stdout", .line = 'O', .piece = 'o', .from = -1, .to = -1},
        {.name = "stderr", .line = 'E', .piece = 'e', .from = -1, .to = -1},
    };
    int files[3] = {-1, -1, -1}, go = -1;
    int told = open_end(options->end), signals = take_signals();
    /* The command is of the same user: it must not reach into this process, which holds its files and its log. */
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int code = options->turn ? await_turn(options->turn, signals, &go) : 0;
    if (code)
        return code == NOT_NEEDED ? 0 : code;
    end.start = clock_ms();
    open_redirects(options, files, &end);
    if (!*end.problem && options->workdir)
        enter_workdir(options->workdir, &end);
    for (int one = 0; one < 2; one++) {
        streams[one].path = options->redirect[one + 1];
        streams[one].to = files[one + 1];
        stream_open(&streams[one], options->log_bytes, &end);
    }
    if (!*end.problem && !*end.fault)
        live(options, files[0], signals, go, streams, &end);
    if (!end.finish)
        end.finish = clock_ms();
    measure(&end);
    write_end(told, &end, streams);
    log_record(streams);
    log_drain();
    log_settle();
    /* A task whose output is not all there never looks like a success. */
    return *end.fault && end.code == 0 ? FAILED : end.code;
}
