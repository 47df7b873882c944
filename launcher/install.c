/* A copy of this program in a directory, under its name only once it is whole. */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool copy(int from, int to)
{
    static char buffer[64 * 1024];
    ssize_t found;
    while ((found = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, written; done < found; done += written)
            if ((written = write(to, buffer + done, (size_t)(found - done))) < 0)
                return false;
    /* No umask may hide it from the image's user. */
    return found == 0 && fchmod(to, 0555) == 0 && fsync(to) == 0;
}

static bool place(int directory)
{
    char name[64];
    snprintf(name, sizeof name, ".launcher-%d-%lld", (int)getpid(), (long long)now_ms());
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = from < 0 ? -1 : openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool done = to >= 0 && copy(from, to);
    /* Closed before it has its name: a program that is open for writing cannot be executed. */
    done = to >= 0 && close(to) == 0 && done && renameat(directory, name, directory, "launcher") == 0;
    if (to >= 0 && !done) {
        int error = errno;
        unlinkat(directory, name, 0);
        errno = error;
    }
    return done;
}

int install(const char *path)
{
    int directory = -1;
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0 && place(directory))
        return 0;
    fprintf(stderr, "launcher: it cannot be installed in %s: %s\n", path, strerror(errno));
    return FAILED;
}
