#include "stop.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <link.h>
#include <sys/time.h>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "hooks.h"

#ifndef __x86_64__
#error "only on x86-64, a division by zero is a signal"
#endif

// A division by zero that WAVM takes for one of the guest's.
asm(".text\n"
    "remuda_divide_by_zero:\n"
    "xorl %ecx, %ecx\n"
    "divl %ecx\n");
extern "C" void remuda_divide_by_zero();

namespace {

// The time after which a thread that was not in its guest's code is asked again. A guest that does little else than to
// call the program (it reads a table in a loop, say) is met in its code only once in many times. A shorter time has the
// handler, which takes some 2 microseconds, take a larger share of the thread's time.
constexpr long AGAIN_MICROSECONDS = 100;

// Whether the thread runs a guest, and is to be stopped.
std::atomic<bool> isInGuest{false};
// Whether the guest was sent to the division.
std::atomic<bool> isStopped{false};
// Whether the timer was set for the guest.
std::atomic<bool> asksAgain{false};

// Where the program and its libraries have their code: all other code is a guest's. It does not change once the handler
// is there.
std::vector<std::pair<uintptr_t, uintptr_t>> ownCode;

int noteOwnCode(dl_phdr_info* info, size_t, void*) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) & header = info->dlpi_phdr[i];
        if (header.p_type == PT_LOAD && header.p_flags & PF_X) {
            uintptr_t from = info->dlpi_addr + header.p_vaddr;
            ownCode.emplace_back(from, from + header.p_memsz);
        }
    }
    return 0;
}

bool isOwnCode(uintptr_t at) {
    for (const auto& [from, to] : ownCode) {
        if (at >= from && at < to) {
            return true;
        }
    }
    return false;
}

// Has the process get a SIGALRM after so many microseconds; 0 sets the timer back.
void setTimer(long microseconds) {
    itimerval timer = {{0, 0}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, nullptr);
}

void onSignal(int, siginfo_t*, void* context) {
    // A signal that comes too late is not for the next guest: the host does not use this worker again.
    if (!isInGuest) {
        return;
    }
    greg_t& at = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
    if (isOwnCode(at)) {
        asksAgain = true;
        setTimer(AGAIN_MICROSECONDS);
    } else {
        isStopped = true;
        at = reinterpret_cast<greg_t>(&remuda_divide_by_zero);
    }
}

} // namespace

void installStop() {
    dl_iterate_phdr(noteOwnCode, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = onSignal;
    // A guest may be at the end of its stack.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (int signal : {SIGINT, SIGALRM}) {
        if (sigaction(signal, &action, nullptr) != 0) {
            abort();
        }
    }
}

void blockStop() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool wasStopped() {
    return isStopped;
}

void lookForStop() {
    if (asksAgain && isInGuest) {
        isStopped = true;
        remuda_divide_by_zero();
    }
}

void enterGuest() {
    isStopped = false;
    isInGuest = true;
}

void leaveGuest() {
    isInGuest = false;
    if (asksAgain.exchange(false)) {
        setTimer(0);
    }
}

OutsideOfGuest::OutsideOfGuest() {
    isInGuest = false;
}

OutsideOfGuest::~OutsideOfGuest() {
    isInGuest = true;
}
