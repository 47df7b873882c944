/* What must be there before the containers of a pod start, made by process 1 of the taskmaster's container.
 *
 *   launcher --hold CONTROL COUNT [--dir P | --file P]... -- ARGV...
 *
 * Makes scratch (directories for any user, empty files), for each of COUNT executors a control directory and copies of
 * the files by which hosts are found, and holds the FIFOs open; then it becomes ARGV, which inherits them, so that they
 * hang up when that ends.
 */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_SECONDS = 110 }; /* below the two minutes after which a kubelet gives up a request to its runtime */

static int cannot(const char *what, const char *path)
{
    fprintf(stderr, "launcher: %s %s cannot be made: %s\n", what, path, strerror(errno));
    return FAILED;
}

/* No umask may keep others out. */
static bool make_directory(const char *path, mode_t mode)
{
    struct stat there;
    if (mkdir(path, mode) == 0)
        return chmod(path, mode) == 0;
    if (errno != EEXIST || stat(path, &there) != 0)
        return false;
    errno = ENOTDIR;
    return S_ISDIR(there.st_mode);
}

/* With the directories above it. */
static bool make_tree(const char *path)
{
    char above[PATH_MAX];
    if (snprintf(above, sizeof above, "%s", path) >= (int)sizeof above) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (char *at = strchr(above + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (!make_directory(above, 0777))
            return false;
        *at = '/';
    }
    return make_directory(above, 0777);
}

static bool make_file(const char *path)
{
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    char *slash = strrchr(above, '/');
    if (slash && slash > above) {
        *slash = '\0';
        if (!make_tree(above))
            return false;
    }
    int file = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return file >= 0 && close(file) == 0;
}

/* The pod has one /etc/hosts and one /etc/resolv.conf: an executor that writes there would send its taskmaster, with all
 * its credentials, to another host. */
static bool copy_host_file(const char *control, long number, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX], buffer[4096];
    snprintf(from, sizeof from, "/etc/%s", name);
    if (snprintf(to, sizeof to, "%s/ex-%02ld.%s", control, number, name) >= (int)sizeof to)
        return false;
    int there = open(from, O_RDONLY | O_CLOEXEC);
    int copy = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t found = 0;
    bool done = copy >= 0;
    while (done && there >= 0 && (found = read(there, buffer, sizeof buffer)) > 0)
        done = write(copy, buffer, (size_t)found) == found;
    if (there >= 0)
        close(there);
    return copy >= 0 && close(copy) == 0 && done && found == 0;
}

/* A FIFO that stays open in this process and in what it becomes. */
static bool hold_fifo(const char *directory, const char *name, mode_t mode, int flags)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return (mkfifo(path, mode) == 0 || errno == EEXIST) && chmod(path, mode) == 0 && open(path, flags | O_NONBLOCK) >= 0;
}

static int make_control(const char *control, long number)
{
    char directory[PATH_MAX - 16], program[PATH_MAX], first[PATH_MAX];
    if (snprintf(directory, sizeof directory, "%s/ex-%02ld", control, number) >= (int)sizeof directory)
        return cannot("the control directory below", control);
    snprintf(program, sizeof program, "%s/launcher", directory);
    snprintf(first, sizeof first, "%s/ex-00/launcher", control);
    if (!make_directory(directory, 0755))
        return cannot("the control directory", directory);
    if (number == 0) {
        if (install(directory) != 0)
            return FAILED;
    } else if (link(first, program) != 0 && errno != EEXIST)
        return cannot("the program", program);
    if (!hold_fifo(directory, "go", 0644, O_RDWR) || !hold_fifo(directory, "end", 0622, O_RDONLY))
        return cannot("a FIFO in", directory);
    if (!copy_host_file(control, number, "hosts") || !copy_host_file(control, number, "resolv.conf"))
        return cannot("copies of host files beside", directory);
    return 0;
}

int hold(int count, char **arguments)
{
    char *rest, ready[PATH_MAX];
    int at = 4;
    long executors = count > 4 ? strtol(arguments[3], &rest, 10) : -1;
    if (executors < 0 || executors > 9999 || *rest != '\0')
        return refuse("--hold takes a directory and a number of executors", "");
    const char *control = arguments[2];
    umask(0);
    for (; at + 1 < count && strcmp(arguments[at], "--") != 0; at += 2) {
        if (strcmp(arguments[at], "--dir") == 0 ? make_tree(arguments[at + 1])
            : strcmp(arguments[at], "--file") == 0 ? make_file(arguments[at + 1])
                                                   : (errno = EINVAL, false))
            continue;
        return cannot(arguments[at], arguments[at + 1]);
    }
    if (at + 1 >= count)
        return refuse("no command is given", "");
    for (long number = 0; number < executors; number++)
        if (make_control(control, number) != 0)
            return FAILED;
    umask(022);
    snprintf(ready, sizeof ready, "%s/ready", control);
    if (!make_file(ready))
        return cannot("the file", ready);
    execv(arguments[at + 1], arguments + at + 1);
    fprintf(stderr, "launcher: %s cannot be executed: %s\n", arguments[at + 1], strerror(errno));
    return FAILED;
}

int await_file(const char *path)
{
    for (int64_t until = now_ms() + WAIT_SECONDS * 1000; now_ms() < until;) {
        if (access(path, F_OK) == 0)
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    fprintf(stderr, "launcher: %s was not made\n", path);
    return FAILED;
}
