/* A command that tells what it was given, for images with nothing else in them.
 *
 *   probe ARGS...      its arguments, environment, directory, user, open files, signals and session
 *   probe exit N       ends so
 *   probe die N        by this signal
 *   probe catch        says "ready", waits for a signal, says its number
 *   probe cat          stdin to stdout
 *   probe both         "out" to stdout and "err" to stderr, without newlines
 *   probe eat N        takes N MiB of memory
 *   probe reach        tries to get at process 1
 *   probe feign CODE   sends its parent a SIGTERM that looks as if it came from outside
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static int compare(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static void print_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;
    while (directory && (entry = readdir(directory)))
        count += entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory);
    printf("files %d\n", count);
}

static void print_signals(void)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Sig", 3) == 0 && strncmp(line, "SigQ", 4) != 0 && strncmp(line, "SigCgt", 6) != 0)
            fputs(line, stdout);
}

static int tell_all(int count, char **arguments)
{
    char directory[PATH_MAX];
    size_t variables = 0;
    for (int one = 1; one < count; one++)
        printf("argument %zu %s\n", strlen(arguments[one]), arguments[one]);
    while (environ[variables])
        variables++;
    qsort(environ, variables, sizeof *environ, compare);
    for (size_t one = 0; one < variables; one++)
        printf("environment %s\n", environ[one]);
    printf("directory %s\n", getcwd(directory, sizeof directory));
    printf("user %d %d\n", (int)getuid(), (int)getgid());
    printf("leads its session %d\n", getsid(0) == getpid());
    print_files();
    print_signals();
    return 0;
}

static int catch_one(void)
{
    sigset_t all;
    memset(&all, 0xff, sizeof all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    puts("ready");
    fflush(stdout);
    printf("caught %d\n", sigwaitinfo(&all, NULL));
    return 0;
}

static int cat(void)
{
    static char buffer[1 << 16];
    ssize_t size;
    while ((size = read(0, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, part; done < size; done += part)
            if ((part = write(1, buffer + done, size - done)) < 0)
                return 1;
    return size < 0;
}

static int eat(size_t mebibytes)
{
    for (size_t one = 0; one < mebibytes; one++)
        memset(malloc(1 << 20), 1, 1 << 20);
    return 0;
}

static int reach(void)
{
    static const char *const places[] = {"/proc/1/fd/1", "/proc/1/mem", "/proc/1/environ"};
    for (int one = 0; one < 3; one++) {
        int file = open(places[one], one < 2 ? O_WRONLY : O_RDONLY);
        printf("%s %s\n", places[one], file < 0 ? strerror(errno) : "is open");
    }
    kill(1, SIGKILL);
    puts("and it lives");
    return 0;
}

static int feign(int code)
{
    siginfo_t told = {.si_signo = SIGTERM, .si_code = code};
    signal(SIGTERM, SIG_IGN);
    fputs(syscall(SYS_rt_sigqueueinfo, getppid(), SIGTERM, &told) == 0 ? "sent" : "refused", stdout);
    return 0;
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    int number = count > 2 ? atoi(arguments[2]) : 0;
    if (strcmp(what, "exit") == 0)
        return number;
    if (strcmp(what, "die") == 0)
        return raise(number);
    if (strcmp(what, "catch") == 0)
        return catch_one();
    if (strcmp(what, "cat") == 0)
        return cat();
    if (strcmp(what, "both") == 0)
        return write(1, "out", 3) + write(2, "err", 3) != 6;
    if (strcmp(what, "eat") == 0)
        return eat((size_t)number);
    if (strcmp(what, "reach") == 0)
        return reach();
    if (strcmp(what, "feign") == 0)
        return feign(number);
    return tell_all(count, arguments);
}
