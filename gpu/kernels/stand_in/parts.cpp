// Modules and streams of the stand-in driver.
#include "../kernels.cuh"
#include "../shim/shim.h"
#include "driver.h"

#include <regex>

namespace driver {
namespace {
#define NAME_OF(kernel, Args) #kernel,
const char *const KERNEL_NAMES[] = {KERNELS(NAME_OF)};

// The bytes in `{1, 2, ...}`.
std::vector<uint8_t> bytes_of(const std::string &list) {
    std::vector<uint8_t> bytes;
    for (size_t at = 0; at < list.size();) {
        size_t used = 0;
        bytes.push_back((uint8_t)std::stoul(list.substr(at), &used));
        at = std::min(list.size(), at + used);
        at = list.find_first_of("0123456789", at);
    }
    return bytes;
}

// Which K a module is made for, as its layout says: its second number.
uint32_t k_of(const Module &module) {
    const auto found = module.globals.find("layout");
    if (found == module.globals.end() || found->second.size() < 16) return 0;
    uint64_t k;
    std::memcpy(&k, &found->second[8], sizeof k);
    return (uint32_t)k;
}
}  // namespace

std::unique_ptr<Module> read_ptx(const char *text) {
    // Heads of kernels and lines of variables are looked for line by line: the whole is megabytes, too much for one expression.
    static const std::regex version(R"(\.version 8\.0)"), target(R"(\.target sm_70)");
    static const std::regex global(R"(\.visible \.global \.align \d+ \.b8 (\w+)\[(\d+)\] = \{([^}]*)\};)");
    static const std::regex entry(R"(\.visible \.entry (\w+)\()"), parameter(R"(\s*\.param \.align \d+ \.b8 \w+\[(\d+)\])");
    static const std::regex threads(R"(\.maxntid (\d+), 1, 1)");
    auto module = std::make_unique<Module>();
    bool has_version = false, has_target = false;
    Function *open = nullptr;
    for (const char *at = text; *at;) {
        const char *end = std::strchr(at, '\n');
        if (!end) end = at + std::strlen(at);
        const std::string line(at, end);
        at = *end ? end + 1 : end;
        // Inside of kernels nothing is of interest.
        if (line.empty() || (line[0] != '.' && !(open && line[0] == '\t'))) {
            if (line == "{") open = nullptr;
            continue;
        }
        std::smatch match;
        if (std::regex_match(line, match, version)) has_version = true;
        if (std::regex_match(line, match, target)) has_target = true;
        if (std::regex_match(line, match, global)) module->globals[match[1]] = bytes_of(match[3]);
        if (std::regex_match(line, match, entry)) (open = &module->functions[match[1]])->name = match[1];
        if (open && std::regex_match(line, match, parameter)) open->args_bytes += (uint32_t)std::stoul(match[1]);
        if (open && std::regex_match(line, match, threads)) open->threads_max = (uint32_t)std::stoul(match[1]);
    }
    const uint32_t k = k_of(*module);
    if (!has_version || !has_target || !shim_layout(k)) return nullptr;
    uint32_t number = 0;
    for (const char *name : KERNEL_NAMES) {
        const auto found = module->functions.find(name);
        if (found != module->functions.end()) found->second.number = number, found->second.k = k;
        number++;
    }
    return module;
}

Stream::Stream() : thread([this] { run(); }) {}

Stream::~Stream() {
    {
        std::lock_guard<std::mutex> lock(mutex);
        ending = true;
    }
    changed.notify_all();
    thread.join();
}

void Stream::push(std::function<void()> work) {
    {
        std::lock_guard<std::mutex> lock(mutex);
        queue.push_back(std::move(work));
    }
    changed.notify_all();
}

bool Stream::is_idle() {
    std::lock_guard<std::mutex> lock(mutex);
    return queue.empty() && !busy;
}

void Stream::wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return queue.empty() && !busy; });
}

void Stream::run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        changed.wait(lock, [this] { return ending || !queue.empty(); });
        if (queue.empty()) return;
        const auto work = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        work();
        lock.lock();
        busy = false;
        changed.notify_all();
    }
}
}  // namespace driver
