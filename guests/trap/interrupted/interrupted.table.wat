;; A loop whose only branch back is a br_table.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (block $out
      (loop $again
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 2)))
        ;; Bit 0 of an even number is never set, so this never goes out.
        (br_table $again $out (i32.and (i32.load (i32.const 0)) (i32.const 1)))))))
