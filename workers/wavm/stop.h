// Stopping a guest by a signal, wherever its code is, so that code needs no checks of its own.
//
// The handler sends a thread that is in a guest's code to a division by zero, which is a trap like any other to WAVM.
// The guest's code holds no locks and has no destructors, so that it can be given up anywhere. If the thread is in code
// of the program on the guest's behalf (it grows the memory, say), the handler has a timer ask again.
#pragma once

// Lets SIGINT stop guests from now on.
void installStop();

// Keeps the signals that stop guests from the calling thread: each thread but the one that runs guests has to do so.
void blockStop();

// Whether the last guest was stopped by a signal.
bool wasStopped();

void enterGuest();
void leaveGuest();

// Runs a guest.
template <typename Run> void inGuest(Run run) {
    enterGuest();
    run();
    leaveGuest();
}

// While there is one, the guest is not stopped, since the program does something of its own in the guest's middle.
class OutsideOfGuest {
public:
    OutsideOfGuest();
    ~OutsideOfGuest();
};
