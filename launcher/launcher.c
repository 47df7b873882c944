/* The command line.
 *
 *   launcher [--stdin P] [--stdout P] [--stderr P] [--workdir P] [--log-bytes N] [--end P] [--turn DIR] -- ARGV...
 *   launcher --install DIR    put a copy of itself at DIR/launcher
 *   launcher --hold CONTROL COUNT [--dir P | --file P]... -- ARGV...
 *   launcher --await FILE     return once it is there
 *   launcher --version
 */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int refuse(const char *about, const char *argument)
{
    fprintf(stderr, "launcher: %s%s\n", about, argument);
    fprintf(stderr, "usage: launcher [--stdin P] [--stdout P] [--stderr P] [--workdir P] [--log-bytes N] [--end P] "
                    "[--turn DIR] -- ARGV...\n"
                    "       launcher --hold CONTROL COUNT [--dir P | --file P]... -- ARGV...\n"
                    "       launcher --install DIR | --await FILE | --version\n");
    return FAILED;
}

/* An empty path is no path, as in a plan. */
static const char *given(const char *path)
{
    return *path ? path : NULL;
}

static bool parse_size(const char *text, size_t *size)
{
    char *rest;
    errno = 0;
    unsigned long found = strtoul(text, &rest, 10);
    *size = found;
    return *text >= '0' && *text <= '9' && *rest == '\0' && errno == 0 && found <= 1ul << 30;
}

static int parse(int count, char **arguments, struct options *options)
{
    int at = 1;
    for (; at < count && strcmp(arguments[at], "--") != 0; at += 2) {
        const char *name = arguments[at], *value = arguments[at + 1];
        if (at + 1 == count)
            return refuse("an option without its value: ", name);
        if (strcmp(name, "--stdin") == 0)
            options->redirect[0] = given(value);
        else if (strcmp(name, "--stdout") == 0)
            options->redirect[1] = given(value);
        else if (strcmp(name, "--stderr") == 0)
            options->redirect[2] = given(value);
        else if (strcmp(name, "--workdir") == 0)
            options->workdir = given(value);
        else if (strcmp(name, "--end") == 0)
            options->end = given(value);
        else if (strcmp(name, "--turn") == 0)
            options->turn = given(value);
        else if (strcmp(name, "--log-bytes") == 0) {
            if (!parse_size(value, &options->log_bytes))
                return refuse("not a number of bytes: ", value);
        } else
            return refuse("no such option: ", name);
    }
    if (at + 1 >= count)
        return refuse("no command is given", "");
    options->command = arguments + at + 1;
    return 0;
}

/* Files that we open must not become a stream that the container was started without. */
static void fill_streams(void)
{
    int file;
    do
        file = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (file >= 0 && file < 3);
    if (file >= 0)
        close(file);
}

int main(int count, char **arguments)
{
    struct options options = {.log_bytes = 64 * 1024};
    fill_streams();
    if (count == 3 && strcmp(arguments[1], "--install") == 0)
        return install(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "--await") == 0)
        return await_file(arguments[2]);
    if (count > 1 && strcmp(arguments[1], "--hold") == 0)
        return hold(count, arguments);
    if (count == 2 && strcmp(arguments[1], "--version") == 0) {
        puts("tesk launcher " TESK_VERSION);
        return 0;
    }
    int code = parse(count, arguments, &options);
    return code ? code : run(&options);
}
