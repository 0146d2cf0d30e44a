/* A disk that keeps only what was synced, and that fails when told to.
 *
 * Preloaded into a process, it copies each file under DISK_WATCH to DISK_KEPT at the moment the
 * file is synced: what lies in DISK_KEPT is what a power cut would have left in the worst case,
 * where nothing unsynced reaches the disk. While the file DISK_FAIL exists its content says what
 * fails: "fsync" makes each sync fail with EIO, "write" each write with ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int path_of(int descriptor, char *path) {
    const char *watch = getenv("DISK_WATCH");
    char link[64];
    ssize_t length;
    if (watch == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, watch, strlen(watch)) == 0;
}

static int failing(const char *what) {
    const char *order = getenv("DISK_FAIL");
    char said[16] = {0};
    FILE *file = order ? fopen(order, "r") : NULL;
    if (file == NULL) return 0;
    if (fgets(said, sizeof said, file) == NULL) said[0] = 0;
    fclose(file);
    return strcmp(said, what) == 0;
}

/* Reads through the caller's own descriptor: closing a second one would drop its file locks. */
static int keep(int from, const char *path) {
    const char *kept = getenv("DISK_KEPT");
    char scratch[PATH_MAX], target[PATH_MAX], buffer[65536];
    const char *name = strrchr(path, '/') + 1;
    struct stat status;
    ssize_t count;
    off_t at = 0;
    int to;
    if (kept == NULL || fstat(from, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    if (snprintf(scratch, sizeof scratch, "%s/%s.scratch", kept, name) >= PATH_MAX) abort();
    if (snprintf(target, sizeof target, "%s/%s", kept, name) >= PATH_MAX) abort();
    to = open(scratch, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0) abort();
    while ((count = pread(from, buffer, sizeof buffer, at)) > 0) {
        if (write(to, buffer, (size_t)count) != count) abort();
        at += count;
    }
    close(to);
    return rename(scratch, target);
}

static int synced(int descriptor, const char *symbol) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
    char path[PATH_MAX];
    int result;
    if (!path_of(descriptor, path)) return real(descriptor);
    if (failing("fsync")) {
        errno = EIO;
        return -1;
    }
    result = real(descriptor);
    if (result == 0) {
        pthread_mutex_lock(&lock);
        result = keep(descriptor, path);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }

static int refused(int descriptor) {
    char path[PATH_MAX];
    if (!path_of(descriptor, path) || !failing("write")) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return refused(descriptor) ? -1 : real(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return refused(descriptor) ? -1 : real(descriptor, data, size, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    return refused(descriptor) ? -1 : real(descriptor, data, size, offset);
}
