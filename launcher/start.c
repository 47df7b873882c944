/* Starting the command: its files, its directory, its program; and a sentence where one of them is not to be had.
 *
 * Codes and sentences are those of the local backend's sandbox.
 */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

extern char **environ;

/* What a child tells that could not become the command: errno, and the file that it could not execute. */
struct refusal {
    int error;
    char file[PATH_MAX - sizeof(int)];
};

static void unusable(const char *name, const char *path, struct end *end)
{
    end->code = NOT_EXECUTABLE;
    tell(end->problem, "its %s %s cannot be opened: %s", name, shown(path), strerror(errno));
}

void open_redirects(const struct options *options, int files[3], struct end *end)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    const char *out = options->redirect[1], *err = options->redirect[2];
    /* Where both streams name one file, neither may overwrite the other. */
    int append = out && err && strcmp(out, err) == 0 ? O_APPEND : 0;
    for (int one = 0; one < 3; one++) {
        const char *path = options->redirect[one];
        int flags = one == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC | append;
        if (one == 0 && !path)
            path = "/dev/null";
        files[one] = path ? open(path, flags | O_CLOEXEC, 0644) : -1;
        if (path && files[one] < 0) {
            unusable(names[one], path, end);
            return;
        }
    }
}

/* As the container runtimes do with an image's WORKDIR; what cannot be made shows when it is entered. */
static void make_directories(const char *path)
{
    char part[PATH_MAX];
    if (strlen(path) >= sizeof part)
        return;
    strcpy(part, path);
    for (char *at = part + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        mkdir(part, 0777);
    }
    mkdir(part, 0777);
}

void enter_workdir(const char *path, struct end *end)
{
    if (chdir(path) == 0)
        return;
    if (errno == ENOENT) {
        make_directories(path);
        if (chdir(path) == 0)
            return;
    }
    unusable("workdir", path, end);
}

static void execute(const char *file, char **command, struct refusal *refusal)
{
    execve(file, command, environ);
    refusal->error = errno;
    snprintf(refusal->file, sizeof refusal->file, "%s", file);
}

/* execve, looked up on the container's PATH; returns with the refusal of the best candidate. */
static void become(char **command, struct refusal *refusal)
{
    char file[PATH_MAX];
    struct refusal now = {0};
    if (strchr(command[0], '/')) {
        execute(command[0], command, refusal);
        return;
    }
    refusal->error = ENOENT;
    for (const char *at = getenv("PATH"); at; at = *at ? at + 1 : NULL) {
        size_t size = strcspn(at, ":");
        int length = snprintf(file, sizeof file, "%.*s/%s", size ? (int)size : 1, size ? at : ".", command[0]);
        at += size;
        if (length >= (int)sizeof file)
            continue;
        execute(file, command, &now);
        bool there = access(file, F_OK) == 0;
        if (there)
            *refusal = now;
        /* A directory that is not there, or closed to this user, does not hold the command. */
        if (now.error != ENOENT && now.error != ENOTDIR && now.error != EACCES && now.error != EPERM) {
            *refusal = now;
            return;
        }
    }
}

static void close_from(int first)
{
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    for (int file = first; file < 1024; file++)
        close(file);
}

static _Noreturn void child(char **command, const int files[3], int told)
{
    struct refusal refusal = {0};
    sigset_t none;
    setsid();
    for (int file = 0; file < 3; file++)
        dup2(files[file], file);
    dup2(told, 3); /* none of our files is below 3, see fill_streams */
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_from(4);
    for (int number = 1; number < _NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    become(command, &refusal);
    _exit(write(3, &refusal, sizeof refusal) < 0 ? FAILED : 0);
}

static bool is_script(const char *file)
{
    char first[2] = "";
    int opened = open(file, O_RDONLY | O_CLOEXEC);
    bool found = opened >= 0 && read(opened, first, 2) == 2 && first[0] == '#' && first[1] == '!';
    if (opened >= 0)
        close(opened);
    return found;
}

static void explain(const char *program, const struct refusal *refusal, struct end *end)
{
    struct stat status;
    const char *name = shown(program);
    end->code = NOT_EXECUTABLE;
    if (refusal->error == ENOENT) {
        end->code = NOT_FOUND;
        if (!*refusal->file || access(refusal->file, F_OK) != 0)
            tell(end->problem, "the command '%s' was not found%s", name, strchr(program, '/') ? "" : " on the PATH");
        else if (is_script(refusal->file))
            tell(end->problem, "the interpreter that '%s' names in its first line was not found", name);
        else
            tell(end->problem, "the dynamic loader that the command '%s' needs was not found", name);
    } else if (refusal->error == E2BIG)
        tell(end->problem, "its command line and environment are longer than Linux allows");
    else if (refusal->error == EACCES && stat(refusal->file, &status) == 0 && S_ISDIR(status.st_mode))
        tell(end->problem, "the command '%s' is a directory", name);
    else
        tell(end->problem, "the command '%s' cannot be executed: %s", name, strerror(refusal->error));
}

int start_command(char **command, const int files[3], struct end *end)
{
    int told[2];
    struct refusal refusal;
    if (setenv("PATH", DEFAULT_PATH, 0) != 0 || pipe2(told, O_CLOEXEC) != 0) {
        tell(end->fault, "no process can be started: %s", strerror(errno));
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        child(command, files, told[1]);
    if (pid < 0)
        tell(end->fault, "no process can be started: %s", strerror(errno));
    close(told[1]);
    /* Over as soon as the command runs. */
    if (pid > 0 && read(told[0], &refusal, sizeof refusal) == (ssize_t)sizeof refusal) {
        explain(command[0], &refusal, end);
        pid = 0;
    }
    close(told[0]);
    return pid;
}
