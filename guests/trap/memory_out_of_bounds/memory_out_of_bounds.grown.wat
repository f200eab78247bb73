;; Loads from the page that a refused memory.grow did not add.
(module
  (memory (export "memory") 1 1)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
      (then (return)))
    (drop (i32.load (i32.const 65536)))))
