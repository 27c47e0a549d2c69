// What the calls of the stand-in share: handles that are checked, modules read from PTX, streams with a thread each.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace driver {
// CUresult, as far as it is given here.
enum Code : int {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    CONTEXT_IS_DESTROYED = 709,
    ALREADY_REGISTERED = 712,
    NOT_REGISTERED = 713,
    LAUNCH_FAILED = 719,
};

// A kernel as the PTX declares it.
struct Function {
    std::string name;
    uint32_t number = 0;       // in KERNELS
    uint32_t args_bytes = 0;   // of its one parameter
    uint32_t threads_max = 0;  // .maxntid
    uint32_t k = 0;
};

// A loaded module. Variables that the PTX does not show are not found.
struct Module {
    std::map<std::string, Function> functions;
    std::map<std::string, std::vector<uint8_t>> globals;
};

// Reads what the driver's compiler would: null if this is not our PTX.
std::unique_ptr<Module> read_ptx(const char *text);

// Runs work in the order in which it was given, on a thread of its own.
class Stream {
  public:
    Stream();
    ~Stream();  // runs what is queued first
    void push(std::function<void()> work);
    bool is_idle();
    void wait();

  private:
    void run();
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> queue;
    bool busy = false, ending = false;
    std::thread thread;
};
}  // namespace driver
