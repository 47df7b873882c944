/* The launcher: process 1 of an executor's container. docs/decisions/0009-launcher.md says why it is as it is. */

#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a shell, podman and the sandbox say; FAILED is podman's code for a failure of its own. */
enum { FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127, SIGNALLED = 128 };
enum { NOT_NEEDED = -1 }; /* the executor's turn never comes: the launcher ends with 0 */

struct options {
    const char *redirect[3]; /* the files of stdin, stdout, stderr, or NULL */
    const char *workdir;     /* or NULL: where the container starts */
    const char *end;         /* the file that is told how the command ended, or NULL: Kubernetes' own, if it is there */
    const char *turn;        /* the control directory where a taskmaster says when to start, or NULL: now */
    size_t log_bytes;        /* of each stream, in the record */
    char **command;
};

/* How the command ended. A problem is the command's (it was not found); a fault is ours or the machine's. */
struct end {
    int code;
    bool out_of_memory;
    int asked; /* the signal by which the runtime asked us to end, or 0 */
    int64_t start, finish; /* milliseconds since 1970 */
    int64_t peak_memory_bytes, user_cpu_ms, system_cpu_ms;
    char problem[512], fault[512]; /* sentences, or empty */
};

/* run.c: run the command to its end; the exit code of the launcher. */
int run(const struct options *options);

/* start.c */
void open_redirects(const struct options *options, int files[3], struct end *end); /* files, or -1 and a problem */
void enter_workdir(const char *path, struct end *end);
/* The command in a session of its own, with these files as its stdin, stdout and stderr; -1 and a fault, or 0 and a
 * problem when there is no such program. */
int start_command(char **command, const int files[3], struct end *end);

/* end.c */
int open_end(const char *path);
int64_t count_oom_kills(void); /* in our own cgroup so far, or -1 where that cannot be known */
/* `text` short enough for a sentence; overwritten by the next call. */
const char *shown(const char *text);
void tell(char sentence[512], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* log.c: our own stdout, which is the pod's log, written without ever waiting unless asked to. */
enum { LOG_ROOM = 128 * 1024 };
void log_put(const void *data, size_t size); /* waits only when LOG_ROOM bytes wait already */
bool log_waits(void);                        /* bytes are there that nobody took yet */
void log_push(void);                         /* write what can be written now */
void log_drain(void);                        /* write everything, however long it takes */
void log_settle(void);                       /* wait until what was written last should have been read */

/* stream.c: one stream of the command on its way to the log, the task's file and the excerpt. */
enum { CHUNK = 32 * 1024, PIECE = 8 * 1024, PATIENCE_MS = 200 };

struct stream {
    const char *name;
    char line, piece; /* the tags of the log's lines: with the stream's newline, without one */
    const char *path; /* of the task's file, or NULL */
    int from;         /* the pipe that the command writes to, -1 once it is over */
    int to;           /* the task's file, or -1 */
    uint64_t size;
    size_t head_room, tail_room;
    char *head, *tail; /* tail is a ring: byte number n of the stream after the head lies at n % tail_room */
    int64_t since;     /* when the first held byte came, in milliseconds of now_ms */
    size_t held;
    char hold[PIECE];
};

void stream_open(struct stream *stream, size_t log_bytes, struct end *end);
size_t stream_move(struct stream *stream, size_t limit, struct end *end); /* bytes moved; 0 when it is over */
void stream_drain(struct stream *stream, struct end *end);                /* what is in the pipe now, and no more */
void stream_flush(struct stream *stream);                                 /* a piece without a newline goes out */
/* What is kept of both, in JSON, given to `out` in parts. */
typedef void put(const void *data, size_t size);
void put_record(put *out, const struct stream streams[2]);
void log_record(const struct stream streams[2]);
/* end.c: to `file`, and to a taskmaster that waits for it; short streams go along. */
void write_end(int file, const struct end *end, const struct stream streams[2]);
int64_t now_ms(void);

/* turn.c */
enum order { NOTHING = 0, GONE = 1, START = 'g', STOP = 's', NEVER = 'n' };
/* Tell the taskmaster that we are here and wait for its word; 0 to start, or the code to end with. `signals` is a
 * signalfd. */
int await_turn(const char *directory, int signals, int *go);
enum order next_order(int go);
put turn_put; /* to the taskmaster, if there is one */

/* install.c */
int install(const char *directory);

/* hold.c */
int hold(int count, char **arguments);
int await_file(const char *path);

/* launcher.c */
int refuse(const char *about, const char *argument);

#endif
