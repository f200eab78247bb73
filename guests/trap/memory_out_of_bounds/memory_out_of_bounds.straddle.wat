;; Loads eight bytes of which the last one lies beyond the end of memory.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (i64.load (i32.const 65529)))))
