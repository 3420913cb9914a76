/* A disk that fails on command, for one process.
 *
 * Preloaded, it stands between the process and write(2), pwrite(2), fsync(2), fdatasync(2) and the creation of files, for what
 * lies below the directory RINGMQ_FAULTS_BELOW. What happens there stands in the file RINGMQ_FAULTS, as five numbers that are
 * read before each call:
 *
 *   write     writes fail with this error number; 0: they do not
 *   sync      syncs fail with this one
 *   create    files are not created, and this is why
 *   sync_ms   syncs take so many milliseconds longer
 *   partial   1: the first write that is to fail, and is not a small one, writes its first half, as a disk that becomes full does
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct plan {
    int write, sync, create, sync_ms, partial;
};

static int has_begun;

static struct plan plan_now(void) {
    struct plan plan = {0, 0, 0, 0, 0};
    const char *path = getenv("RINGMQ_FAULTS");
    char text[128] = {0};
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (file >= 0) {
        if (syscall(SYS_read, file, text, sizeof text - 1) > 0)
            sscanf(text, "%d %d %d %d %d", &plan.write, &plan.sync, &plan.create, &plan.sync_ms, &plan.partial);
        syscall(SYS_close, file);
    }
    if (!plan.write)
        __atomic_store_n(&has_begun, 0, __ATOMIC_RELAXED);
    return plan;
}

static int is_below(const char *path) {
    const char *below = getenv("RINGMQ_FAULTS_BELOW");
    return below && path && strncmp(path, below, strlen(below)) == 0;
}

static int is_ours(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return is_below(path);
}

/* How many of `length` bytes are written; -1: none, and errno says why. */
static ssize_t allowed(int file, size_t length) {
    if (file <= 2 || !is_ours(file))
        return (ssize_t)length;
    struct plan plan = plan_now();
    if (!plan.write)
        return (ssize_t)length;
    if (plan.partial && length > 256 && !__atomic_exchange_n(&has_begun, 1, __ATOMIC_RELAXED))
        return (ssize_t)(length / 2);
    errno = plan.write;
    return -1;
}

ssize_t write(int file, const void *bytes, size_t length) {
    ssize_t allows = allowed(file, length);
    return allows < 0 ? -1 : syscall(SYS_write, file, bytes, (size_t)allows);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    size_t length = 0;
    for (int part = 0; part < count; part++)
        length += parts[part].iov_len;
    ssize_t allows = allowed(file, length);
    if (allows < 0)
        return -1;
    if ((size_t)allows < length)
        return syscall(SYS_write, file, parts[0].iov_base, parts[0].iov_len);
    return syscall(SYS_writev, file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    ssize_t allows = allowed(file, length);
    return allows < 0 ? -1 : syscall(SYS_pwrite64, file, bytes, (size_t)allows, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return pwrite64(file, bytes, length, offset);
}

static int sync_with(long number, int file) {
    if (is_ours(file)) {
        struct plan plan = plan_now();
        if (plan.sync_ms) {
            struct timespec pause = {plan.sync_ms / 1000, plan.sync_ms % 1000 * 1000000L};
            nanosleep(&pause, NULL);
        }
        if (plan.sync) {
            errno = plan.sync;
            return -1;
        }
    }
    return (int)syscall(number, file);
}

int fsync(int file) {
    return sync_with(SYS_fsync, file);
}

int fdatasync(int file) {
    return sync_with(SYS_fdatasync, file);
}

static int open_with(int directory, const char *path, int flags, int mode) {
    if ((flags & O_CREAT) && is_below(path)) {
        struct plan plan = plan_now();
        if (plan.create) {
            errno = plan.create;
            return -1;
        }
    }
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

#define OPEN(name, ...)                                                                                                \
    int mode = 0;                                                                                                      \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, int);                                                                                      \
        va_end(rest);                                                                                                  \
    }                                                                                                                  \
    return open_with(__VA_ARGS__, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD); }
int openat(int directory, const char *path, int flags, ...) { OPEN(openat, directory); }
int openat64(int directory, const char *path, int flags, ...) { OPEN(openat64, directory); }
