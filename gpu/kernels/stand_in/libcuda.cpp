// A libcuda.so.1 that stands for a driver where there is no card: the calls that this project makes, kernels run by the shim on the CPU. With it
// everything above the driver, cudarc and our use of it included, runs as it would with a card. What it says of timing, of what a driver
// accepts beyond what is checked here, and of a GPU's memory model is nothing.
//
// It is strict: handles must live, a context must be current, copies must lie in allocations, host memory may be registered once, a launch must fit what
// the PTX declares. Environment: STAND_IN_CARDS = how many cards (1), STAND_IN_MEMORY_MIB = of each (6144), STAND_IN_LOSE_AT_LAUNCH = the launch
// at which the first card is lost, STAND_IN_LOG = a file that gets a line when the process ends: launches, and what was not given back.
#include "../shim/shim.h"
#include "driver.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>

#define CALL extern "C" __attribute__((visibility("default"))) int

namespace {
using namespace driver;
using Clock = std::chrono::steady_clock;

uint64_t setting(const char *name, uint64_t usual) {
    const char *text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : usual;
}

// When a stream came by.
struct Moment {
    std::mutex mutex;
    bool reached = false;
    Clock::time_point when;
};

// What was recorded last; the stream holds it too, so that an event may go before it is reached.
struct Event {
    std::shared_ptr<Moment> moment;
};

struct Card {
    int number = 0, retained = 0;
    bool lost = false;
    uint64_t launches = 0, used_bytes = 0;
    std::map<uint64_t, uint64_t> allocations;  // address, bytes
    std::set<Module *> modules;
    std::set<Stream *> streams;
    std::set<Event *> events;
};

struct Driver {
    std::recursive_mutex mutex;
    bool initialized = false;
    std::vector<Card> cards;
    std::map<uint64_t, uint64_t> registered;  // address, bytes
    const uint64_t memory_bytes = setting("STAND_IN_MEMORY_MIB", 6144) << 20;
    const uint64_t lose_at = setting("STAND_IN_LOSE_AT_LAUNCH", ~0ull);

    Driver() : cards(setting("STAND_IN_CARDS", 1)) {
        for (size_t i = 0; i < cards.size(); i++) cards[i].number = (int)i;
    }
    ~Driver() {
        const char *path = std::getenv("STAND_IN_LOG");
        FILE *log = path ? std::fopen(path, "a") : nullptr;
        if (!log) return;
        uint64_t launches = 0, left = registered.size();
        for (const Card &card : cards) {
            launches += card.launches;
            left += card.allocations.size() + card.modules.size() + card.streams.size() + card.events.size() + (size_t)card.retained;
        }
        std::fprintf(log, "%llu launches, %llu objects left\n", (unsigned long long)launches, (unsigned long long)left);
        std::fclose(log);
    }
};

Driver &all() {
    static Driver driver;
    return driver;
}

thread_local Card *current = nullptr;

using Lock = std::lock_guard<std::recursive_mutex>;

// What is wrong with calling now, if anything is.
int usable() {
    if (!all().initialized) return NOT_INITIALIZED;
    if (!current) return INVALID_CONTEXT;
    if (current->retained == 0) return CONTEXT_IS_DESTROYED;
    return current->lost ? LAUNCH_FAILED : OK;
}

#define IN_CONTEXT                            \
    Lock lock(all().mutex);                   \
    if (const int code = usable()) return code

Card *card_of(int device) {
    auto &cards = all().cards;
    return device >= 0 && (size_t)device < cards.size() ? &cards[(size_t)device] : nullptr;
}

// Whether these bytes lie in one allocation.
bool is_allocated(const Card &card, uint64_t address, uint64_t bytes) {
    auto after = card.allocations.upper_bound(address);
    if (after == card.allocations.begin()) return false;
    const auto &[start, size] = *--after;
    return address - start <= size && bytes <= size - (address - start);
}

bool overlaps(const std::map<uint64_t, uint64_t> &ranges, uint64_t start, uint64_t bytes) {
    for (const auto &[other, size] : ranges)
        if (start < other + size && other < start + bytes) return true;
    return false;
}

void copy(uint64_t to, uint64_t from, size_t bytes) { std::memcpy((void *)to, (const void *)from, bytes); }

int copy_async(uint64_t to, uint64_t from, uint64_t on_card, size_t bytes, Stream *stream) {
    if (!current->streams.count(stream)) return INVALID_HANDLE;
    if (!is_allocated(*current, on_card, bytes)) return INVALID_VALUE;
    stream->push([=] { copy(to, from, bytes); });
    return OK;
}
}  // namespace

CALL cuInit(unsigned flags) {
    Lock lock(all().mutex);
    if (flags) return INVALID_VALUE;
    if (all().cards.empty()) return NO_DEVICE;
    all().initialized = true;
    return OK;
}

CALL cuDriverGetVersion(int *version) {
    *version = 12000;
    return OK;
}

CALL cuGetErrorName(int code, const char **name) {
    *name = code == OK ? "CUDA_SUCCESS" : code == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR";
    return OK;
}

CALL cuGetErrorString(int, const char **text) {
    *text = "of the stand-in driver";
    return OK;
}

CALL cuDeviceGetCount(int *count) {
    if (!all().initialized) return NOT_INITIALIZED;
    *count = (int)all().cards.size();
    return OK;
}

CALL cuDeviceGet(int *device, int ordinal) {
    if (!all().initialized) return NOT_INITIALIZED;
    if (!card_of(ordinal)) return INVALID_DEVICE;
    *device = ordinal;
    return OK;
}

CALL cuDeviceGetName(char *name, int length, int device) {
    if (!card_of(device)) return INVALID_DEVICE;
    std::snprintf(name, (size_t)length, "Stand-in: kernels on the CPU");
    return OK;
}

CALL cuDeviceGetPCIBusId(char *text, int length, int device) {
    if (!card_of(device)) return INVALID_DEVICE;
    std::snprintf(text, (size_t)length, "0000:%02x:00.0", device + 1);
    return OK;
}

CALL cuDeviceGetUuid(uint8_t *uuid, int device) {
    if (!card_of(device)) return INVALID_DEVICE;
    std::memset(uuid, 0, 16);
    uuid[15] = (uint8_t)device;
    return OK;
}

CALL cuDeviceTotalMem_v2(size_t *bytes, int device) {
    if (!card_of(device)) return INVALID_DEVICE;
    *bytes = all().memory_bytes;
    return OK;
}

CALL cuDeviceGetAttribute(int *value, int attribute, int device) {
    enum { CLOCK_RATE = 13, MULTIPROCESSOR_COUNT = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };
    if (!card_of(device)) return INVALID_DEVICE;
    switch (attribute) {
        case CLOCK_RATE: *value = 1'000'000; return OK;
        case MULTIPROCESSOR_COUNT: *value = 1; return OK;
        case CAPABILITY_MAJOR: *value = 7; return OK;
        case CAPABILITY_MINOR: *value = 0; return OK;
        default: return INVALID_VALUE;
    }
}

CALL cuDevicePrimaryCtxRetain(Card **context, int device) {
    Lock lock(all().mutex);
    if (!(*context = card_of(device))) return INVALID_DEVICE;
    (*context)->retained++;
    return OK;
}

CALL cuDevicePrimaryCtxRelease_v2(int device) {
    Lock lock(all().mutex);
    Card *card = card_of(device);
    if (!card) return INVALID_DEVICE;
    if (card->retained == 0) return INVALID_CONTEXT;
    card->retained--;
    return OK;
}

CALL cuCtxSetCurrent(Card *context) {
    current = context;
    return OK;
}

CALL cuModuleLoadDataEx(Module **module, const char *image, unsigned, int *, void **) {
    IN_CONTEXT;
    auto read = read_ptx(image);
    if (!read) return INVALID_PTX;
    current->modules.insert(*module = read.release());
    return OK;
}

CALL cuModuleUnload(Module *module) {
    IN_CONTEXT;
    if (!current->modules.erase(module)) return INVALID_HANDLE;
    for (Stream *stream : current->streams) stream->wait();
    for (auto &[_, bytes] : module->globals) current->allocations.erase((uint64_t)bytes.data());
    delete module;
    return OK;
}

CALL cuModuleGetFunction(const Function **function, Module *module, const char *name) {
    IN_CONTEXT;
    if (!current->modules.count(module)) return INVALID_HANDLE;
    const auto found = module->functions.find(name);
    if (found == module->functions.end() || !found->second.k) return NOT_FOUND;
    *function = &found->second;
    return OK;
}

CALL cuModuleGetGlobal_v2(uint64_t *address, size_t *bytes, Module *module, const char *name) {
    IN_CONTEXT;
    if (!current->modules.count(module)) return INVALID_HANDLE;
    const auto found = module->globals.find(name);
    if (found == module->globals.end()) return NOT_FOUND;
    *address = (uint64_t)found->second.data(), *bytes = found->second.size();
    current->allocations[*address] = *bytes;
    return OK;
}

CALL cuMemGetInfo_v2(size_t *free, size_t *total) {
    IN_CONTEXT;
    *total = all().memory_bytes, *free = *total - current->used_bytes;
    return OK;
}

CALL cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    IN_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (bytes > all().memory_bytes - current->used_bytes) return OUT_OF_MEMORY;
    void *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!memory) return OUT_OF_MEMORY;
    std::memset(memory, 0xa5, bytes);  // whoever counts on zeroes is found out
    *address = (uint64_t)memory;
    current->allocations[*address] = bytes, current->used_bytes += bytes;
    return OK;
}

CALL cuMemFree_v2(uint64_t address) {
    IN_CONTEXT;
    const auto found = current->allocations.find(address);
    if (found == current->allocations.end()) return INVALID_VALUE;
    for (Stream *stream : current->streams) stream->wait();
    current->used_bytes -= found->second;
    current->allocations.erase(found);
    std::free((void *)address);
    return OK;
}

CALL cuMemHostRegister_v2(void *start, size_t bytes, unsigned) {
    IN_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (overlaps(all().registered, (uint64_t)start, bytes)) return ALREADY_REGISTERED;
    all().registered[(uint64_t)start] = bytes;
    return OK;
}

CALL cuMemHostUnregister(void *start) {
    IN_CONTEXT;
    return all().registered.erase((uint64_t)start) ? OK : NOT_REGISTERED;
}

CALL cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    IN_CONTEXT;
    if (!is_allocated(*current, from, bytes)) return INVALID_VALUE;
    copy((uint64_t)to, from, bytes);
    return OK;
}

CALL cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    return copy_async(to, (uint64_t)from, to, bytes, stream);
}

CALL cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    return copy_async((uint64_t)to, from, from, bytes, stream);
}

CALL cuStreamCreate(Stream **stream, unsigned flags) {
    IN_CONTEXT;
    if (flags > 1) return INVALID_VALUE;
    current->streams.insert(*stream = new Stream);
    return OK;
}

CALL cuStreamDestroy_v2(Stream *stream) {
    IN_CONTEXT;
    if (!current->streams.erase(stream)) return INVALID_HANDLE;
    delete stream;
    return OK;
}

CALL cuStreamQuery(Stream *stream) {
    IN_CONTEXT;
    if (!current->streams.count(stream)) return INVALID_HANDLE;
    return stream->is_idle() ? OK : NOT_READY;
}

CALL cuEventCreate(Event **event, unsigned flags) {
    IN_CONTEXT;
    if (flags) return INVALID_VALUE;
    current->events.insert(*event = new Event);
    return OK;
}

CALL cuEventDestroy_v2(Event *event) {
    IN_CONTEXT;
    if (!current->events.erase(event)) return INVALID_HANDLE;
    delete event;
    return OK;
}

CALL cuEventRecord(Event *event, Stream *stream) {
    IN_CONTEXT;
    if (!current->events.count(event) || !current->streams.count(stream)) return INVALID_HANDLE;
    auto moment = event->moment = std::make_shared<Moment>();
    stream->push([moment] {
        std::lock_guard<std::mutex> lock(moment->mutex);
        moment->reached = true, moment->when = Clock::now();
    });
    return OK;
}

CALL cuEventQuery(Event *event) {
    IN_CONTEXT;
    if (!current->events.count(event)) return INVALID_HANDLE;
    if (!event->moment) return OK;
    std::lock_guard<std::mutex> reading(event->moment->mutex);
    return event->moment->reached ? OK : NOT_READY;
}

CALL cuEventElapsedTime(float *milliseconds, Event *from, Event *to) {
    IN_CONTEXT;
    if (!current->events.count(from) || !current->events.count(to) || !from->moment || !to->moment) return INVALID_HANDLE;
    // Neither changes once it is reached.
    if (cuEventQuery(from) != OK || cuEventQuery(to) != OK) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->moment->when - from->moment->when).count();
    return OK;
}

CALL cuLaunchKernel(const Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned threads, unsigned block_y, unsigned block_z,
                    unsigned shared_bytes, Stream *stream, void **parameters, void **extra) {
    IN_CONTEXT;
    if (!current->streams.count(stream)) return INVALID_HANDLE;
    const bool fits = threads == function->threads_max && block_y == 1 && block_z == 1 && grid_z == 1 && grid_x && grid_y && grid_y < 65536;
    if (!fits || shared_bytes || extra || !parameters) return INVALID_VALUE;
    // As a driver does: the argument is copied before the call returns, and it is as long as the PTX says.
    const auto *bytes = (const uint8_t *)parameters[0];
    std::vector<uint8_t> args(bytes, bytes + function->args_bytes);
    Card *card = current;
    if (++card->launches >= all().lose_at && card->number == 0) {
        card->lost = true;
        return LAUNCH_FAILED;
    }
    const uint32_t os_threads = std::min(64u, std::max(1u, std::thread::hardware_concurrency()));
    stream->push([=] {
        if (!card->lost && shim_launch(function->k, function->number, grid_x, grid_y, args.data(), 0, os_threads)) card->lost = true;
    });
    return OK;
}
