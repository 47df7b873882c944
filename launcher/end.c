/* How the command ended: one line of JSON where Kubernetes reads a container's termination message (at most 4 KiB). */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A name of SHOWN bytes, all of which JSON escapes, in two sentences: still below 4 KiB. */
enum { SHOWN = 240 };
/* Streams of so many bytes together are told here, too: in base64 they leave room for a sentence. */
enum { TOLD = 1500, TOLD_ROOM = TOLD / 3 * 4 + 200 };

int open_end(const char *path)
{
    if (path)
        return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return open("/dev/termination-log", O_WRONLY | O_CLOEXEC);
}

void tell(char sentence[512], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, 512, format, arguments);
    va_end(arguments);
}

const char *shown(const char *text)
{
    static char kept[SHOWN + 4];
    size_t size = strnlen(text, SHOWN + 1);
    if (size <= SHOWN)
        return text;
    size = SHOWN;
    while (size > 0 && (text[size] & 0xc0) == 0x80)
        size--; /* not within a character */
    memcpy(kept, text, size);
    memcpy(kept + size, "...", 4);
    return kept;
}

struct text {
    char bytes[4096];
    size_t size;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof text->bytes - text->size;
    int size = vsnprintf(text->bytes + text->size, room, format, arguments);
    va_end(arguments);
    text->size += size < (int)room ? (size_t)size : room - 1;
}

/* The bytes of the UTF-8 character at `text`, or 0 where there is none. */
static size_t character(const unsigned char *text)
{
    size_t size = *text < 0x80 ? 1 : *text < 0xc2 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : *text < 0xf5 ? 4 : 0;
    for (size_t at = 1; at < size; at++)
        if ((text[at] & 0xc0) != 0x80)
            return 0;
    unsigned pair = size > 2 ? (unsigned)text[0] << 8 | text[1] : 0xffff;
    bool bad = size == 3 ? pair < 0xe0a0 || (pair >= 0xeda0 && pair < 0xee00) : size == 4 && (pair < 0xf090 || pair >= 0xf490);
    return bad ? 0 : size;
}

static void add_sentence(struct text *text, const char *key, const char *sentence)
{
    if (!*sentence)
        return;
    add(text, ",\"%s\":\"", key);
    for (const unsigned char *at = (const unsigned char *)sentence; *at;) {
        size_t size = character(at);
        if (size == 0)
            add(text, "\\ufffd"); /* the API takes nothing but UTF-8 */
        else if (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f)
            add(text, "\\u%04x", *at);
        else
            add(text, "%.*s", (int)size, (const char *)at);
        at += size ? size : 1;
    }
    add(text, "\"");
}

/* RFC 3339 in UTC with milliseconds. */
static void add_time(struct text *text, const char *key, int64_t when)
{
    time_t seconds = (time_t)(when / 1000);
    struct tm parts;
    char day[32];
    gmtime_r(&seconds, &parts);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    add(text, ",\"%s\":\"%s.%03dZ\"", key, day, (int)(when % 1000));
}

static struct text *recorded;

static void add_record(const void *data, size_t size)
{
    add(recorded, "%.*s", (int)size, (const char *)data);
}

static bool is_small(const struct stream streams[2])
{
    return streams[0].size <= streams[0].head_room && streams[1].size <= streams[1].head_room &&
           streams[0].size + streams[1].size <= TOLD;
}

void write_end(int file, const struct end *end, const struct stream streams[2])
{
    struct text text = {.size = 0};
    add(&text, "{\"exit_code\":%d", end->code);
    add_time(&text, "start", end->start);
    add_time(&text, "end", end->finish);
    add_sentence(&text, "problem", end->problem);
    add_sentence(&text, "fault", end->fault);
    if (end->out_of_memory)
        add(&text, ",\"oom\":true");
    if (end->asked)
        add(&text, ",\"asked\":%d", end->asked);
    add(&text, ",\"usage\":{\"peak_memory_bytes\":%lld,\"user_cpu_ms\":%lld,\"system_cpu_ms\":%lld}",
        (long long)end->peak_memory_bytes, (long long)end->user_cpu_ms, (long long)end->system_cpu_ms);
    bool small = is_small(streams) && text.size + TOLD_ROOM < sizeof text.bytes;
    if (small) {
        add(&text, ",\"streams\":");
        recorded = &text;
        put_record(add_record, streams);
    }
    add(&text, "}\n");
    /* The command may have written there, too. Where it cannot be written, the container's exit code must do. */
    if (file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, text.bytes, text.size, 0) < 0)
        fprintf(stderr, "launcher: how it ended cannot be written: %s\n", strerror(errno));
    turn_put(text.bytes, text.size);
    if (!small) {
        turn_put("R ", 2);
        put_record(turn_put, streams);
        turn_put("\n", 1);
    }
}

/* The number after `key` in a file of lines "key number", or -1. */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t found = -1;
    FILE *file = fopen(path, "re");
    while (file && found < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            found = strtoll(line + strlen(key), NULL, 10);
    if (file)
        fclose(file);
    return found;
}

/* Our path in the hierarchy of cgroup v1's memory controller, or in that of v2; "" where there is none. */
static void cgroup_path(bool second, char path[4096])
{
    static char line[4200];
    path[0] = '\0';
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *place = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!place)
            continue;
        *controllers++ = *place++ = '\0';
        place[strcspn(place, "\n")] = '\0';
        if (second ? *controllers == '\0' : strcmp(controllers, "memory") == 0)
            snprintf(path, 4096, "%s", strcmp(place, "/") == 0 ? "" : place);
    }
    if (file)
        fclose(file);
}

int64_t count_oom_kills(void)
{
    static const struct {
        bool second;
        const char *mount, *file;
    } versions[] = {
        {true, "/sys/fs/cgroup", "memory.events"},
        {false, "/sys/fs/cgroup/memory", "memory.oom_control"},
    };
    static char path[4096], file[4200];
    for (size_t one = 0; one < 2; one++) {
        cgroup_path(versions[one].second, path);
        /* A container without a cgroup namespace is told the machine's path, and shown its own cgroup as the mount. */
        for (int at_mount = 0; at_mount < 2; at_mount++) {
            snprintf(file, sizeof file, "%s%s/%s", versions[one].mount, at_mount ? "" : path, versions[one].file);
            int64_t found = number_in(file, "oom_kill ");
            if (found >= 0)
                return found;
        }
    }
    return -1;
}
