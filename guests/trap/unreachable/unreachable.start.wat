;; Executes unreachable in the start function, so instantiation fails and _start is never called.
(module
  (memory (export "memory") 1)
  (func $start
    unreachable)
  (start $start)
  (func (export "_start")))
