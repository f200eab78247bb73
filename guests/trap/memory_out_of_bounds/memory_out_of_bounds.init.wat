;; memory.init that reads one byte beyond its data segment.
(module
  (memory (export "memory") 1)
  (data $bytes "four")
  (func (export "_start")
    (memory.init $bytes (i32.const 0) (i32.const 0) (i32.const 5))))
