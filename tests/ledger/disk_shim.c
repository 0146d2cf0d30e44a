/* A disk that keeps only what was synced, and that fails when told to.
 *
 * Preloaded into a process, it copies each file under DISK_WATCH to DISK_KEPT at the moment the
 * file is synced: what lies in DISK_KEPT is what a power cut would have left in the worst case,
 * where nothing unsynced reaches the disk. While the file DISK_FAIL exists its content says what
 * fails: "fsync" makes each sync fail with EIO, "fsync-file" each but those of the write-ahead log,
 * and "write" each write with ENOSPC.
 *
 * A sync that fails loses what it should have written, as Linux does: the pages read back from
 * memory as written, count as clean, and no later sync writes them unless they are written again.
 * Which pages those are is kept beside the copies, so that it outlives the process.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 65536
#define FILES 4

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char name[256];
    unsigned char *lost; /* one byte for each page: a failed sync left it in memory only */
} files[FILES];

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

static void kept_path(char *path, const char *name, const char *suffix) {
    const char *kept = getenv("DISK_KEPT");
    if (kept == NULL) abort();
    if (snprintf(path, PATH_MAX, "%s/%s%s", kept, name, suffix) >= PATH_MAX) abort();
}

/* The lost pages of a file, mapped from beside its copy. The caller holds the lock. */
static unsigned char *lost_of(const char *name) {
    char path[PATH_MAX];
    int number, descriptor;
    for (number = 0; number < FILES && files[number].lost != NULL; number++)
        if (strcmp(files[number].name, name) == 0) return files[number].lost;
    if (number == FILES || strlen(name) >= sizeof files[number].name) abort();
    kept_path(path, name, ".lost");
    descriptor = open(path, O_RDWR | O_CREAT, 0600);
    if (descriptor < 0 || ftruncate(descriptor, PAGES) != 0) abort();
    files[number].lost = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (files[number].lost == MAP_FAILED) abort();
    close(descriptor);
    strcpy(files[number].name, name);
    return files[number].lost;
}

static void read_page(int descriptor, off_t at, char *page) {
    memset(page, 0, PAGE);
    if (descriptor >= 0 && pread(descriptor, page, PAGE, at) < 0) abort();
}

/* Bring the copy up to the file as a sync would, or lose what it would have brought.
 *
 * Reads through the caller's own descriptor: closing a second one would drop its file locks. */
static void sync_copy(int from, const char *path, int fails) {
    const char *name = strrchr(path, '/') + 1;
    char copy[PATH_MAX], scratch[PATH_MAX], live[PAGE], old[PAGE];
    unsigned char *lost = lost_of(name);
    struct stat status;
    int before, to = -1;
    off_t at;
    if (fstat(from, &status) != 0) abort();
    if (!S_ISREG(status.st_mode)) return;
    if (status.st_size > (off_t)PAGES * PAGE) abort();
    kept_path(copy, name, "");
    kept_path(scratch, name, ".scratch");
    before = open(copy, O_RDONLY);
    if (!fails && (to = open(scratch, O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0) abort();
    for (at = 0; at < status.st_size; at += PAGE) {
        size_t size = status.st_size - at < PAGE ? (size_t)(status.st_size - at) : PAGE;
        read_page(from, at, live);
        read_page(before, at, old);
        if (fails) lost[at / PAGE] |= memcmp(live, old, PAGE) != 0;
        else if (write(to, lost[at / PAGE] ? old : live, size) != (ssize_t)size) abort();
    }
    if (before >= 0) close(before);
    if (fails) return;
    close(to);
    if (rename(scratch, copy) != 0) abort();
}

static int synced(int descriptor, const char *symbol) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
    char path[PATH_MAX];
    int result, fails;
    if (!path_of(descriptor, path)) return real(descriptor);
    fails = failing("fsync") || (failing("fsync-file") && strstr(path, "-wal") == NULL);
    result = real(descriptor);
    pthread_mutex_lock(&lock);
    sync_copy(descriptor, path, fails);
    pthread_mutex_unlock(&lock);
    if (!fails) return result;
    errno = EIO;
    return -1;
}

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }

/* Pages that are written again, or cut off, are no longer lost. */
static void rewritten(const char *path, off_t at, off_t end) {
    unsigned char *lost;
    pthread_mutex_lock(&lock);
    lost = lost_of(strrchr(path, '/') + 1);
    for (at /= PAGE; at < PAGES && at * PAGE < end; at++) lost[at] = 0;
    pthread_mutex_unlock(&lock);
}

static int refused(int descriptor, off_t at, size_t size) {
    char path[PATH_MAX];
    if (!path_of(descriptor, path)) return 0;
    if (failing("write")) {
        errno = ENOSPC;
        return 1;
    }
    rewritten(path, at, at + (off_t)size);
    return 0;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    off_t at = lseek(descriptor, 0, SEEK_CUR);
    return refused(descriptor, at, size) ? -1 : real(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return refused(descriptor, at, size) ? -1 : real(descriptor, data, size, at);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    return refused(descriptor, at, size) ? -1 : real(descriptor, data, size, at);
}

static int truncated(int descriptor, off_t size, const char *symbol) {
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, symbol);
    char path[PATH_MAX];
    if (path_of(descriptor, path)) rewritten(path, size, (off_t)PAGES * PAGE);
    return real(descriptor, size);
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size, "ftruncate"); }
int ftruncate64(int descriptor, off64_t size) {
    return truncated(descriptor, size, "ftruncate64");
}
